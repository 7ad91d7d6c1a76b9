//! What older kernels cannot show, as data: where a path may fall short of the expectation, how,
//! and why. Everything that is not in this list must be the same on each kernel; docs/kernels.md
//! says the same in words.

use super::paths::{Traced, Way};

/// How a path may fall short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A drop has no reason.
    NoDropReason,
    /// The tracer refuses to work that way.
    Refused,
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
        until: [6, 4],
        effect: Effect::Refused,
        reason: "before 6.4 BPF programs cannot be netfilter functions",
    },
];

/// What the path may lack on a kernel of that version.
pub(crate) fn of(traced: &Traced, version: &[u32]) -> Vec<&'static Degradation> {
    let concerns = |degradation: &&Degradation| {
        let path = match degradation.effect {
            Effect::NoDropReason => traced.case.original.ends_with(" drop"),
            Effect::Refused => traced.way == Way::Link,
        };
        path && version < degradation.until.as_slice()
    };
    DEGRADATIONS.iter().filter(concerns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::paths;

    fn effects(name: &str, version: &[u32]) -> Vec<Effect> {
        let all = paths::all();
        let traced = all.iter().find(|traced| traced.to_string() == name);
        let found = of(traced.unwrap(), version);
        found.iter().map(|degradation| degradation.effect).collect()
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(
            effects("iptables-nft/refused+link", &[5, 10, 262]),
            [Effect::NoDropReason, Effect::Refused]
        );
        let later = |version: &[u32]| effects("iptables-nft/refused+link", version);
        assert_eq!(later(&[6, 1, 192]), [Effect::Refused]);
        assert_eq!(later(&[6, 12, 117]), []);
        assert_eq!(effects("nftables/tcp", &[5, 10, 262]), []);
    }

    #[test]
    fn the_documentation_has_them_all() {
        let documentation = include_str!("../../../docs/kernels.md");
        for degradation in DEGRADATIONS {
            let reason = degradation.reason;
            assert!(
                documentation.contains(reason),
                "docs/kernels.md lacks {reason:?}"
            );
        }
    }
}
