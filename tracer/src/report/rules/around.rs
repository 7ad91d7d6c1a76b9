//! What rules ask of the namespace that they are in.

use std::net::IpAddr;

use crate::node::{
    rules::subject::{AddressKind, Surroundings},
    snapshot::Namespace,
};

/// A namespace's own answers.
pub(in crate::report) struct Around<'a>(pub(in crate::report) &'a Namespace);

impl Surroundings for Around<'_> {
    fn address_kind(&self, address: IpAddr) -> Option<AddressKind> {
        if address.is_unspecified() {
            return Some(AddressKind::Unspecified);
        }
        if address.is_multicast() {
            return Some(AddressKind::Multicast);
        }
        if self.0.links.is_empty() {
            // It could not be read.
            return None;
        }
        if address.is_loopback() {
            return Some(AddressKind::Local);
        }
        let prefixes = self.0.links.values().flat_map(|link| &link.addresses);
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
