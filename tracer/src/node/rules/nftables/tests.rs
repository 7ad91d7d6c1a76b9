//! Listings of a real nft, of real kube-proxies, and of nobody.

mod evaluation;
mod hostile;
mod kernel;
mod listings;
mod reading;
mod services;

/// A recorded file of `tests/fixtures`.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/",
            $name
        ))
    };
}
pub(super) use fixture;

/// All statements that the parser knows, as nft 1.0.6 listed them.
pub(super) const EXPRESSIONS: &str = fixture!("nftables/expressions.json");
/// kube-proxy 1.36 in nftables mode.
pub(super) const PROXY_1_36: &str = fixture!("kube-proxy/1.36-nft-j-list-ruleset.json");
/// kube-proxy 1.30 in nftables mode.
pub(super) const PROXY_1_30: &str = fixture!("kube-proxy/1.30-nft-j-list-ruleset.json");
/// kube-proxy 1.36 in iptables mode on nf_tables.
pub(super) const IPTABLES_1_36: &str = fixture!("kube-proxy/1.36-iptables-nft-j-list-ruleset.json");
/// kube-proxy 1.30 in iptables mode on nf_tables.
pub(super) const IPTABLES_1_30: &str = fixture!("kube-proxy/1.30-iptables-nft-j-list-ruleset.json");
