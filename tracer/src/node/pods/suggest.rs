//! Pods that a person may have meant.

use super::PodName;

/// How many are proposed.
const PROPOSALS: usize = 3;
/// How alike names must be, of 1, where nothing else connects them.
const ALIKE: f64 = 0.8;

/// The names that are most like this one: first the same in another namespace, then those that a
/// controller made of it (`web` and `web-7c5ddbdf54-x8k2p`), then those that are nearly the same.
pub fn similar<'a>(
    name: &PodName,
    known: impl IntoIterator<Item = &'a PodName>,
) -> Vec<&'a PodName> {
    let mut found: Vec<(u8, f64, &PodName)> = known
        .into_iter()
        .filter(|known| *known != name)
        .filter_map(|known| rank(name, known).map(|(rank, alike)| (rank, alike, known)))
        .collect();
    found.sort_by(|a, b| {
        (a.0, -a.1, a.2)
            .partial_cmp(&(b.0, -b.1, b.2))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    found.dedup_by_key(|(.., name)| *name);
    found.truncate(PROPOSALS);
    found.into_iter().map(|(.., name)| name).collect()
}

fn rank(name: &PodName, known: &PodName) -> Option<(u8, f64)> {
    let elsewhere = u8::from(name.namespace() != known.namespace());
    if name.name() == known.name() {
        return Some((0, 1.0));
    }
    let made = known.name().strip_prefix(name.name());
    if made.is_some_and(|rest| rest.starts_with('-')) {
        return Some((1 + elsewhere, 1.0));
    }
    let alike = strsim::jaro_winkler(name.name(), known.name());
    (alike >= ALIKE).then_some((3 + elsewhere, alike))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_come_first() {
        let known = [
            "default/web-7c5ddbdf54-x8k2p",
            "default/wed",
            "shop/web",
            "kube-system/coredns-5d78c9869d-2xk7p",
            "shop/web-0",
        ];
        let known: Vec<PodName> = known.map(|name| PodName::parse(name).unwrap()).into();
        let meant = |text: &str| -> Vec<String> {
            let name = PodName::parse(text).unwrap();
            similar(&name, &known)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            meant("web"),
            ["shop/web", "default/web-7c5ddbdf54-x8k2p", "shop/web-0"]
        );
        assert_eq!(meant("coredns"), ["kube-system/coredns-5d78c9869d-2xk7p"]);
        assert!(meant("postgres").is_empty());
        assert_eq!(meant("wedd")[0], "default/wed");
    }
}
