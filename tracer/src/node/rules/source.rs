//! Who says what a Service or a rule is.

use serde::{Deserialize, Serialize};

/// Which set of rules said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `iptables` on nf_tables.
    IptablesNft,
    /// `iptables` on the kernel's own x_tables.
    IptablesLegacy,
    /// nftables' own rules.
    Nftables,
    /// The kernel's load balancer.
    Ipvs,
    /// The Kubernetes API.
    KubernetesApi,
}

impl Source {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::KubernetesApi => "kubernetes-api",
        }
    }
}
