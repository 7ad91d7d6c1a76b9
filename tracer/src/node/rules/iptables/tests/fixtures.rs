//! Outputs of the real tools.

use super::super::Tables;

macro_rules! fixture {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/fixtures/",
                $name
            )),
        )
    };
}

/// All of them, with their names.
pub(in super::super) const ALL: [(&str, &str); 13] = [
    fixture!("kube-proxy/1.30-iptables-nft-save.txt"),
    fixture!("kube-proxy/1.36-iptables-nft-save.txt"),
    fixture!("kube-proxy/1.36-iptables-legacy-save.txt"),
    fixture!("iptables/no-rules-iptables-nft-save.txt"),
    fixture!("iptables/extensions-iptables-nft-save.txt"),
    fixture!("iptables/extensions-iptables-legacy-save.txt"),
    fixture!("iptables/extensions-ip6tables-nft-save.txt"),
    fixture!("iptables/extensions-ip6tables-legacy-save.txt"),
    fixture!("iptables/frontends-iptables-nft-save.txt"),
    fixture!("iptables/frontends-ip6tables-nft-save.txt"),
    fixture!("iptables/frontends-ip6tables-legacy-save.txt"),
    fixture!("iptables/large-cluster-iptables-nft-save.txt"),
    fixture!("iptables/large-cluster-iptables-legacy-save.txt"),
];

/// The one whose name ends so.
pub(in super::super) fn tables(name: &str) -> Tables {
    let (_, text) = ALL
        .iter()
        .find(|(path, _)| path.strip_suffix("-save.txt").unwrap().ends_with(name))
        .unwrap();
    Tables::parse(text).unwrap()
}
