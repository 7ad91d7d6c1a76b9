//! All rules of one network namespace, and how they changed.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{evaluate::RuleSet, ipset, iptables, nftables};
use crate::node::{ipvs, services::Services};

/// All rules of a namespace at one moment. Its parts are shared by the versions in which they are
/// the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// iptables: one for each family and back end that has tables.
    #[serde(default)]
    pub iptables: Vec<Arc<iptables::RuleSet>>,
    /// nftables' own tables.
    #[serde(default)]
    pub nftables: Arc<nftables::RuleSet>,
    /// The ipsets that iptables' rules refer to.
    #[serde(default)]
    pub ipsets: Arc<ipset::Sets>,
    /// IPVS.
    #[serde(default)]
    pub ipvs: Arc<ipvs::Table>,
    /// What could not be read, and why, for people. A rule may be missing then.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Rules {
    /// Each form, to be evaluated.
    #[must_use]
    pub fn sets(&self) -> Vec<&dyn RuleSet> {
        let iptables = self.iptables.iter().map(|rules| &**rules as &dyn RuleSet);
        iptables
            .chain([&*self.nftables as &dyn RuleSet, &*self.ipvs as &dyn RuleSet])
            .collect()
    }

    /// The Services that they make; `own` says which addresses are the namespace's.
    #[must_use]
    pub fn services(&self, own: impl Fn(IpAddr) -> bool) -> Services {
        let iptables = self.iptables.iter();
        let mut services: Vec<_> = iptables
            .flat_map(|rules| rules.services().iter().cloned())
            .collect();
        services.extend(self.nftables.services());
        services.extend(self.ipvs.services(own));
        Services::from(services)
    }

    /// Rules and what stands in their place, to judge what keeping them costs.
    #[must_use]
    pub fn size(&self) -> usize {
        let iptables = self.iptables.iter().map(|rules| rules.tables().rules());
        iptables.sum::<usize>()
            + self.nftables.listing().objects.len()
            + self.ipvs.servers().len()
            + self.ipsets.elements()
    }

    /// Whether there is nothing to say of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size() == 0 && self.notes.is_empty()
    }
}
