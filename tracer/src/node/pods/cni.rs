//! What libcni keeps of each attachment: `/var/lib/cni/results/NETWORK-SANDBOX-INTERFACE`.
//!
//! One file says it all: the pod's names (the runtime's `CNI_ARGS`), its namespace's path, its
//! addresses and the host's end of its veth pair. It is written when the last plugin of the network
//! has answered, and removed when the pod is detached. Runtimes that call plugins without libcni
//! write none; nor do those with a cache directory of their own.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    ParseError,
    identity::{PodName, Uid, is_container_id},
};

/// The only kind that carries names (libcni 0.8 and later).
const KIND: &str = "cniCacheV1";
/// The network of a runtime's own that gives a pod its loopback device.
const LOOPBACK: &str = "lo";

/// An attachment of a pod to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniResult {
    /// The sandbox's id.
    pub sandbox: String,
    /// The pod; `None` where the runtime gave no names.
    pub pod: Option<PodName>,
    /// Its UID: containerd 1.6 and CRI-O 1.20 and later.
    pub uid: Option<Uid>,
    /// Where its network namespace is mounted.
    pub netns: Option<String>,
    /// The device in the pod.
    pub interface: String,
    /// The pod's addresses on it; none of the loopback device.
    pub addresses: Vec<IpAddr>,
    /// The names of the devices that the plugins made on the host: bridge and veth.
    pub host_interfaces: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    if_name: String,
    #[serde(default)]
    netns: Option<String>,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    result: Answer,
}

/// The plugins' answer, in any version of the specification.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Address>,
    /// Before 0.3.
    ip4: Option<OldAddress>,
    ip6: Option<OldAddress>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

#[derive(Deserialize)]
struct OldAddress {
    ip: String,
}

/// Reads a file of the cache.
///
/// # Errors
/// When it is not JSON of that kind, or holds an id or name that none can be.
pub fn parse(bytes: &[u8]) -> Result<CniResult, ParseError> {
    let file: File = serde_json::from_slice(bytes)?;
    if file.kind != KIND {
        return Err(ParseError::Kind("its kind is not cniCacheV1"));
    }
    if !is_container_id(&file.container_id) {
        return Err(ParseError::Name("the sandbox's id"));
    }
    let argument = |key: &str| {
        let mut found = file.cni_args.iter().filter(|(name, _)| name == key);
        found.next().map(|(_, value)| value.as_str())
    };
    let pod = match (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME")) {
        (Some(namespace), Some(name)) => {
            Some(PodName::new(namespace, name).map_err(|_| ParseError::Name("the pod's name"))?)
        }
        _ => None,
    };
    let uid = argument("K8S_POD_UID").and_then(Uid::new);
    let (inside, outside): (Vec<_>, Vec<_>) = file
        .result
        .interfaces
        .iter()
        .partition(|interface| !interface.sandbox.is_empty());
    let netns = file
        .netns
        .filter(|path| !path.is_empty())
        .or_else(|| inside.first().map(|interface| interface.sandbox.clone()));
    Ok(CniResult {
        pod,
        uid,
        netns,
        addresses: addresses(&file.result, &file.if_name),
        host_interfaces: outside.into_iter().map(|i| i.name.clone()).collect(),
        sandbox: file.container_id,
        interface: file.if_name,
    })
}

fn addresses(answer: &Answer, interface: &str) -> Vec<IpAddr> {
    if interface == LOOPBACK {
        return Vec::new();
    }
    let old = [&answer.ip4, &answer.ip6];
    let old = old.into_iter().flatten().map(|address| &address.ip);
    let texts = answer.ips.iter().map(|ip| &ip.address).chain(old);
    let mut addresses: Vec<IpAddr> = texts
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SANDBOX: &str = "be5f355e645675f42075859138209e1277abc4a643bd5a33d16888ec98621531";

    fn fixture(network: &str, interface: &str) -> CniResult {
        let root = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/cri/var/lib/cni/results"
        );
        let path = format!("{root}/{network}-{SANDBOX}-{interface}");
        parse(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_file_of_containerd_says_who_where_and_which_address() {
        let result = fixture("cbr0", "eth0");
        let expected = CniResult {
            sandbox: SANDBOX.to_owned(),
            pod: Some(PodName::new("default", "nginx-7c5ddbdf54-x8k2p").unwrap()),
            uid: Uid::new("4990d984-10d7-4903-89be-5be14e76c05a"),
            netns: Some("/var/run/netns/cni-22152ca6-899e-e873-1a4b-8a6253e88db3".to_owned()),
            interface: "eth0".to_owned(),
            addresses: vec!["10.244.1.100".parse().unwrap()],
            host_interfaces: vec!["cni0".to_owned(), "veth0170cb30".to_owned()],
        };
        assert_eq!(result, expected);
    }

    #[test]
    fn the_loopback_network_gives_no_address() {
        let result = fixture("cni-loopback", "lo");
        assert!(result.addresses.is_empty());
        assert_eq!(result.pod, fixture("cbr0", "eth0").pod);
    }

    #[test]
    fn other_versions_are_read() {
        let newer = r#"{"kind":"cniCacheV1","containerId":"a","ifName":"eth0","networkName":"n",
            "netns":"/run/netns/x","cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]],
            "future":{"deep":[1]},"result":{"cniVersion":"1.1.0","ips":[{"address":"fd00::2/64"},
            {"address":"10.0.0.2/24"},{"address":"nonsense"}]}}"#;
        let result = parse(newer.as_bytes()).unwrap();
        assert_eq!(result.netns.as_deref(), Some("/run/netns/x"));
        assert_eq!((result.addresses.len(), result.uid), (2, None));
        let older = r#"{"kind":"cniCacheV1","containerId":"a","ifName":"eth0",
            "result":{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"},"ip6":null}}"#;
        let result = parse(older.as_bytes()).unwrap();
        assert_eq!(result.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!((result.pod, result.netns), (None, None));
    }

    #[test]
    fn what_is_something_else_is_refused() {
        let refused = [
            "",
            "{}",
            "[]",
            "null",
            r#"{"kind":"other","containerId":"a","ifName":"eth0"}"#,
            r#"{"kind":"cniCacheV1","containerId":"../a","ifName":"eth0"}"#,
            r#"{"kind":"cniCacheV1","containerId":"a","ifName":"eth0","cniArgs":"x"}"#,
            r#"{"kind":"cniCacheV1","containerId":"a","ifName":"eth0",
                "cniArgs":[["K8S_POD_NAMESPACE","\u001b[2J"],["K8S_POD_NAME","b"]]}"#,
        ];
        for text in refused {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!(
            r#"{{"kind":"cniCacheV1","containerId":"a","ifName":"e","x":{}1{}}}"#,
            "[".repeat(500_000),
            "]".repeat(500_000)
        );
        // Refused or not: what is not read costs no stack.
        let _ = parse(deep.as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_change_of_a_file_is_read_or_refused(at in 0usize..1333, byte: u8, cut in 0usize..1333) {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/cri/var/lib/cni/results");
            let mut bytes = std::fs::read(format!("{root}/cbr0-{SANDBOX}-eth0")).unwrap();
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
            let _ = parse(&bytes);
            bytes.truncate(cut);
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
