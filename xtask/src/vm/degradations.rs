//! What a kernel or a way of seeing netfilter cannot show, as data: where a path may fall short of
//! the expectation, how, and why. Everything that is not in this list must be the same on each
//! kernel and by each way; docs/kernels.md says the same in words.

use tracer_tests::trace::json::{Hop, Stage};

use super::paths::{Beside, Case, Way};

/// How a path may fall short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A drop has no reason.
    NoDropReason,
    /// The kernel itself forwards packets twice, so that neither their hops nor their number are
    /// as elsewhere.
    ForwardedTwice,
    /// The tracer refuses to work that way.
    Refused(Way),
}

/// A shortcoming of some kernels.
#[derive(Debug)]
pub(crate) struct Degradation {
    /// The first version without it.
    pub(crate) until: [u32; 2],
    /// What is missing.
    pub(crate) effect: Effect,
    /// Why, as docs/kernels.md has it.
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const DEGRADATIONS: &[Degradation] = &[
    Degradation {
        until: [5, 17],
        effect: Effect::NoDropReason,
        reason: "before 5.17 the kernel gives no reason of a drop",
    },
    Degradation {
        // The newest kernel that was seen to do it is 5.10, the oldest seen not to is 6.1.
        until: [6, 1],
        effect: Effect::ForwardedTwice,
        reason: "5.10 forwards a packet twice that br_netfilter redirects on a promiscuous bridge",
    },
    Degradation {
        until: [6, 4],
        effect: Effect::Refused(Way::Link),
        reason: "before 6.4 BPF programs cannot be netfilter functions",
    },
];

/// What one way does not see that the best one sees on the same kernel.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Which way.
    pub(crate) way: Way,
    /// The hops that it lacks.
    pub(crate) lacks: fn(&Hop) -> bool,
    /// Why, as docs/kernels.md has it.
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[Difference {
    way: Way::Link,
    lacks: |hop| is_hook(hop.stage) && hop.netns.as_deref() != Some(NETNS_WITH_RULES),
    reason: "netfilter links are made only in namespaces that have rules",
}];

/// Where the lab's rules are.
const NETNS_WITH_RULES: &str = "node";

fn is_hook(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Prerouting | Stage::Input | Stage::Forward | Stage::Output | Stage::Postrouting
    )
}

/// Whether the way is to show a hop that the best one showed.
pub(crate) fn shows(way: Way, hop: &Hop) -> bool {
    let mut differences = DIFFERENCES.iter().filter(|it| it.way == way);
    !differences.any(|difference| (difference.lacks)(hop))
}

/// Why the way shows less than the best one.
pub(crate) fn differences(way: Way) -> Vec<&'static str> {
    let differences = DIFFERENCES.iter().filter(|it| it.way == way);
    differences.map(|difference| difference.reason).collect()
}

/// Why the way does not exist on a kernel of that version, if it does not.
pub(crate) fn refusal(way: Way, version: &[u32]) -> Option<&'static Degradation> {
    let mut there = DEGRADATIONS.iter().filter(|it| it.concerns(version));
    there.find(|degradation| degradation.effect == Effect::Refused(way))
}

/// What the path may lack on a kernel of that version.
pub(crate) fn of(case: &Case, version: &[u32]) -> Vec<&'static Degradation> {
    let of_path = |degradation: &&Degradation| match degradation.effect {
        Effect::NoDropReason => case.original.ends_with(" drop"),
        Effect::ForwardedTwice => case.beside == Beside::Promiscuous,
        Effect::Refused(_) => false,
    };
    let there = DEGRADATIONS.iter().filter(|it| it.concerns(version));
    there.filter(of_path).collect()
}

impl Degradation {
    fn concerns(&self, version: &[u32]) -> bool {
        version < self.until.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::paths;

    #[test]
    fn versions_are_compared_by_number() {
        let all = paths::all();
        let effects = |name: &str, version: &[u32]| {
            let traced = all.iter().find(|traced| traced.to_string() == name);
            let found = of(traced.unwrap().case, version);
            found.iter().map(|it| it.effect).collect::<Vec<_>>()
        };
        let refused = |version: &[u32]| effects("iptables-nft/refused", version);
        assert_eq!(refused(&[5, 10, 262]), [Effect::NoDropReason]);
        assert_eq!(refused(&[6, 1, 192]), []);
        assert_eq!(effects("nftables/tcp", &[5, 10, 262]), []);
        assert!(refusal(Way::Link, &[6, 1, 192]).is_some());
        assert!(refusal(Way::Link, &[6, 12, 117]).is_none());
        assert!(refusal(Way::Best, &[5, 10, 262]).is_none());
    }

    #[test]
    fn the_documentation_has_them_all() {
        let documentation = include_str!("../../../docs/kernels.md");
        let words: Vec<&str> = documentation.split_whitespace().collect();
        let documentation = words.join(" ");
        let degradations = DEGRADATIONS.iter().map(|it| it.reason);
        for reason in degradations.chain(DIFFERENCES.iter().map(|it| it.reason)) {
            assert!(
                documentation.contains(reason),
                "docs/kernels.md lacks {reason:?}"
            );
        }
    }
}
