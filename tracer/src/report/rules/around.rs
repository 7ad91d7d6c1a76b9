//! What rules ask of the namespace that they are in.

use std::net::IpAddr;

use crate::node::{
    rules::{
        decision::Decision,
        history::Version,
        ipset,
        subject::{AddressKind, Subject, Surroundings},
    },
    snapshot::Namespace,
};

/// A namespace's own answers.
pub(in crate::report) struct Around<'a> {
    namespace: &'a Namespace,
    sets: Option<&'a ipset::Sets>,
}

impl<'a> Around<'a> {
    /// Those of its addresses.
    pub(in crate::report) fn new(namespace: &'a Namespace) -> Self {
        Self {
            namespace,
            sets: None,
        }
    }

    /// Those with the sets of a version of its rules.
    pub(super) fn with_rules(namespace: &'a Namespace, version: &'a Version) -> Self {
        Self {
            namespace,
            sets: Some(&version.rules.ipsets),
        }
    }
}

impl Surroundings for Around<'_> {
    fn in_set(&self, set: &str, dimensions: &[&str], subject: &Subject) -> Decision {
        match self.sets {
            Some(sets) => sets.has(set, dimensions, subject),
            None => ipset::Sets::default().has(set, dimensions, subject),
        }
    }

    fn address_kind(&self, address: IpAddr) -> Option<AddressKind> {
        if address.is_unspecified() {
            return Some(AddressKind::Unspecified);
        }
        if address.is_multicast() {
            return Some(AddressKind::Multicast);
        }
        if self.namespace.links.is_empty() {
            // It could not be read.
            return None;
        }
        if address.is_loopback() {
            return Some(AddressKind::Local);
        }
        let prefixes = self
            .namespace
            .links
            .values()
            .flat_map(|link| &link.addresses);
        let mut kind = AddressKind::Unicast;
        for prefix in prefixes {
            if prefix.address == address {
                return Some(AddressKind::Local);
            }
            if let (IpAddr::V4(own), IpAddr::V4(asked)) = (prefix.address, address) {
                let host = u32::MAX.checked_shr(u32::from(prefix.length)).unwrap_or(0);
                let broadcast = own.to_bits() | host;
                if (1..31).contains(&prefix.length) && asked.to_bits() == broadcast {
                    kind = AddressKind::Broadcast;
                }
            }
        }
        if address == IpAddr::from([255, 255, 255, 255]) {
            kind = AddressKind::Broadcast;
        }
        Some(kind)
    }
}
