//! Which lab to raise: the ways real clusters differ in the path of a packet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An enum whose values a person types: its words, `Display`, `FromStr` and the list of all.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value's word, as typed and printed.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("unknown word {word:?}, use one of: {}", [$($word,)+].join(", "))),
                }
            }
        }
    };
}

words! {
    /// The CNI plugin that attaches the pods.
    Plugin {
        /// `bridge`: all pods of a node on the bridge `cni0`, as flannel and kubenet do it.
        #[default]
        Bridge = "bridge",
        /// `ptp`: a routed veth pair for each pod, the shape of Calico.
        Ptp = "ptp",
    }
}

words! {
    /// How pod traffic gets from node to node.
    Fabric {
        /// VXLAN on port 8472 as flannel does it: `flannel.1` for IPv4, `flannel-v6.1` for IPv6.
        #[default]
        Vxlan = "vxlan",
        /// A plain route to the other node (flannel's host-gw, Calico without encapsulation).
        Routed = "routed",
    }
}

words! {
    /// In which form the Services stand in the kernel.
    Proxy {
        /// kube-proxy's iptables mode on iptables-nft.
        #[default]
        IptablesNft = "iptables-nft",
        /// kube-proxy's iptables mode on iptables-legacy.
        IptablesLegacy = "iptables-legacy",
        /// kube-proxy's nftables mode.
        Nftables = "nftables",
    }
}

/// Which lab to raise. All labs are dual-stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Config {
    /// How the pods are attached.
    pub plugin: Plugin,
    /// How the nodes are joined.
    pub fabric: Fabric,
    /// What the Services are made of.
    pub proxy: Proxy,
}

impl Config {
    /// Every variant there is.
    pub fn all() -> impl Iterator<Item = Self> {
        Plugin::ALL.iter().flat_map(|&plugin| {
            Fabric::ALL.iter().flat_map(move |&fabric| {
                Proxy::ALL.iter().map(move |&proxy| Self {
                    plugin,
                    fabric,
                    proxy,
                })
            })
        })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.plugin, self.fabric, self.proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for plugin in Plugin::ALL {
            assert_eq!(plugin.as_str().parse(), Ok(*plugin));
        }
        for fabric in Fabric::ALL {
            assert_eq!(fabric.as_str().parse(), Ok(*fabric));
        }
        for proxy in Proxy::ALL {
            assert_eq!(proxy.as_str().parse(), Ok(*proxy));
        }
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "ipvs".parse::<Proxy>().unwrap_err();
        assert!(
            error.contains("iptables-nft, iptables-legacy, nftables"),
            "{error}"
        );
    }

    #[test]
    fn there_are_twelve_variants() {
        let all: std::collections::HashSet<Config> = Config::all().collect();
        assert_eq!(all.len(), 12);
    }
}
