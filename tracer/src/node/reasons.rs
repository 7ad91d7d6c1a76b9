//! What the numbers in `kfree_skb` events mean on this kernel.
//!
//! `enum skb_drop_reason` is renumbered from release to release, so the names come from the
//! running kernel's BTF (`kernel::btf` reads them) and are kept as a plain value that a recording
//! can carry to a machine with another kernel.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

/// Drop reasons by number.
///
/// The high 16 bits of a number are the subsystem (0 for the core), the low 16 bits the reason in
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReasons {
    names: BTreeMap<u32, String>,
    subsystems: BTreeMap<u32, String>,
}

/// How far the subsystem id is shifted in a reason.
pub const SUBSYSTEM_SHIFT: u32 = 16;

/// Behind the numbers of all subsystems.
const FOREIGN: u32 = 0xffff_0000;

impl DropReasons {
    /// Reasons by their full number, and subsystems by their id.
    #[must_use]
    pub fn new(names: BTreeMap<u32, String>, subsystems: BTreeMap<u32, String>) -> Self {
        Self { names, subsystems }
    }

    /// The reason's name without the `SKB_DROP_REASON_` prefix, such as `NETFILTER_DROP`.
    ///
    /// A reason that is not known by name, of a subsystem that is, reads `OPENVSWITCH:7`. `None`
    /// when the kernel gives no name: 0 (no reason given), a kernel before 5.17, a number from
    /// another kernel.
    #[must_use]
    pub fn name(&self, reason: u32) -> Option<Cow<'_, str>> {
        if let Some(name) = self.names.get(&reason) {
            return Some(Cow::Borrowed(name));
        }
        let subsystem = reason >> SUBSYSTEM_SHIFT;
        let name = self.subsystems.get(&subsystem).filter(|_| subsystem != 0)?;
        Some(Cow::Owned(format!("{name}:{}", reason & 0xffff)))
    }

    /// The number of a name, for filters and tests.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.names
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(&number, _)| number)
    }

    /// The reasons that have a name, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.names
            .iter()
            .map(|(&number, name)| (number, name.as_str()))
    }

    /// Gives a reason of another kernel a number that this one's have not.
    pub fn add(&mut self, name: &str) -> u32 {
        let last = self.names.keys().next_back().copied().unwrap_or(0);
        let number = last.max(FOREIGN).saturating_add(1);
        self.names.insert(number, name.to_owned());
        number
    }

    /// How many reasons have a name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no reason has a name (a kernel before 5.17).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_reason_of_a_known_subsystem_names_the_subsystem() {
        let reasons = DropReasons::new(
            BTreeMap::from([(9, "NETFILTER_DROP".to_owned())]),
            BTreeMap::from([(0, "CORE".to_owned()), (3, "OPENVSWITCH".to_owned())]),
        );
        assert_eq!(reasons.name(9).as_deref(), Some("NETFILTER_DROP"));
        assert_eq!(reasons.name(3 << 16 | 7).as_deref(), Some("OPENVSWITCH:7"));
        assert_eq!(reasons.name(10), None);
        assert_eq!(reasons.name(4 << 16), None);
        assert_eq!(reasons.number("NETFILTER_DROP"), Some(9));
    }
}
