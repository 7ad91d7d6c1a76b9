//! nftables' own rules: what `nft -j list ruleset` says.
//!
//! [`read`] makes a [`model::Ruleset`] of the listing; printed, that is the same JSON again, and each
//! rule reads as nft would print it. What is not understood is kept as it is. A [`RuleSet`] is a
//! listing that packets can be led through (`evaluate`), with chains and sets indexed: every value
//! that rules compare is a number (`kind`), a packet gives what is known of one (`packet`, `field`),
//! and sets are looked up by it (`set`). What kube-proxy made of Services is read back by
//! `services`.
//!
//! Tables that iptables-nft made are in the listing too, but not all of what they say: matches of
//! iptables are opaque there, and comments are missing. They are read through `iptables-nft-save`,
//! and left alone here.

mod evaluate;
mod field;
mod index;
pub mod json;
mod kind;
pub mod live;
pub mod model;
mod packet;
mod print;
pub mod read;
mod services;
mod set;
#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::{index::Index, model::Ruleset, read::ReadError, services::ServiceChains};

/// The nftables rules of a namespace. Saved as the listing.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    listing: Ruleset,
    index: Index,
    services: ServiceChains,
}

impl RuleSet {
    /// Reads the output of `nft -j list ruleset`.
    ///
    /// # Errors
    /// When it is no such listing; the error says where.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        read::read(text).map(Self::from)
    }

    /// The listing.
    #[must_use]
    pub fn listing(&self) -> &Ruleset {
        &self.listing
    }

    /// The tables that iptables-nft made, as `ip filter`.
    pub fn tables_of_iptables(&self) -> impl Iterator<Item = String> {
        let tables = self.index.tables.iter().filter(|table| table.of_iptables);
        tables.map(|table| format!("{} {}", table.family.as_str(), table.name))
    }
}

impl From<Ruleset> for RuleSet {
    fn from(listing: Ruleset) -> Self {
        let index = Index::of(&listing);
        let services = ServiceChains::of(&listing, &index);
        Self {
            listing,
            index,
            services,
        }
    }
}

impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.listing == other.listing
    }
}

impl Eq for RuleSet {}

impl Serialize for RuleSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.listing.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RuleSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ruleset::deserialize(deserializer).map(Self::from)
    }
}
