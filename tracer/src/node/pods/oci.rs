//! What containerd and CRI-O keep of each container: the OCI configuration that they gave the
//! low-level runtime, with their annotations.
//!
//! | runtime | directory | process |
//! |---|---|---|
//! | containerd (observed with 1.6) | `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID` | `init.pid` |
//! | CRI-O (from its sources) | `/run/containers/storage/overlay-containers/ID/userdata` | `pidfile` |
//!
//! A pod's sandbox has a configuration of its own, which says whether the pod has a network
//! namespace. containerd's annotations name the pod in every container; CRI-O's do so in the sandbox
//! and, among the labels, in the containers.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use super::{
    ParseError, Source,
    identity::{PodName, Uid, is_container_id},
};

/// A container of a pod, or its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciContainer {
    /// Whose annotations they are.
    pub runtime: Source,
    /// The sandbox that it belongs to; its own id for a sandbox.
    pub sandbox: String,
    /// Whether it is the sandbox itself.
    pub is_sandbox: bool,
    /// The pod.
    pub pod: Option<PodName>,
    /// Its UID.
    pub uid: Option<Uid>,
    /// The container's name in the pod.
    pub name: Option<String>,
    /// A sandbox's network.
    pub network: Option<Network>,
    /// The addresses that the runtime noted.
    pub addresses: Vec<IpAddr>,
}

/// What a sandbox's configuration says of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own, mounted there.
    Own(String),
    /// The node's: it has no network namespace.
    Host,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    r#type: String,
    #[serde(default)]
    path: String,
}

const CONTAINERD: &str = "io.kubernetes.cri.";
const CRIO: &str = "io.kubernetes.cri-o.";

/// Reads a configuration; `None` when it is of no pod.
///
/// # Errors
/// When it is not JSON of that form, or holds an id or name that none can be.
pub fn parse(bytes: &[u8]) -> Result<Option<OciContainer>, ParseError> {
    let file: File = serde_json::from_slice(bytes)?;
    let has = |prefix: &str, key: &str| file.annotations.contains_key(&format!("{prefix}{key}"));
    if has(CONTAINERD, "sandbox-id") {
        containerd(&file).map(Some)
    } else if has(CRIO, "SandboxID") {
        crio(&file).map(Some)
    } else {
        Ok(None)
    }
}

/// The process in a runtime's pid file; `None` when it holds no number.
#[must_use]
pub fn parse_pid(bytes: &[u8]) -> Option<u32> {
    str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// containerd's `pkg/cri/annotations`, 1.4 to 2.1.
fn containerd(file: &File) -> Result<OciContainer, ParseError> {
    let get = |key: &str| annotation(file, CONTAINERD, key);
    let is_sandbox = get("container-type") == Some("sandbox");
    Ok(OciContainer {
        runtime: Source::Containerd,
        sandbox: id(get("sandbox-id"))?,
        is_sandbox,
        pod: pod_name(get("sandbox-namespace"), get("sandbox-name"))?,
        uid: get("sandbox-uid").and_then(Uid::new),
        name: get("container-name").map(str::to_owned),
        network: is_sandbox.then(|| network(file)).flatten(),
        addresses: Vec::new(),
    })
}

/// CRI-O's `pkg/annotations` and kubelet's labels, 1.18 to 1.34.
fn crio(file: &File) -> Result<OciContainer, ParseError> {
    let get = |key: &str| annotation(file, CRIO, key);
    let is_sandbox = get("ContainerType") == Some("sandbox");
    let labels: BTreeMap<String, String> = get("Labels")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let label = |key: &str| labels.get(key).map(String::as_str);
    let namespace = get("Namespace").or_else(|| label("io.kubernetes.pod.namespace"));
    let of_sandbox = get("KubeName").filter(|_| is_sandbox);
    let pod = of_sandbox.or_else(|| label("io.kubernetes.pod.name"));
    let host = is_sandbox && get("HostNetwork") == Some("true");
    Ok(OciContainer {
        runtime: Source::Crio,
        sandbox: id(get("SandboxID"))?,
        is_sandbox,
        pod: pod_name(namespace, pod)?,
        uid: label("io.kubernetes.pod.uid").and_then(Uid::new),
        name: label("io.kubernetes.container.name").map(str::to_owned),
        network: if host {
            Some(Network::Host)
        } else {
            is_sandbox.then(|| network(file)).flatten()
        },
        addresses: crio_addresses(file),
    })
}

/// `IP` before 1.18, then `IP.0`, `IP.1`.
fn crio_addresses(file: &File) -> Vec<IpAddr> {
    let keys = ["IP", "IP.0", "IP.1"];
    let mut addresses: Vec<IpAddr> = keys
        .iter()
        .filter_map(|key| annotation(file, CRIO, key)?.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn annotation<'a>(file: &'a File, prefix: &str, key: &str) -> Option<&'a str> {
    let value = file.annotations.get(&format!("{prefix}{key}"))?;
    (!value.is_empty()).then_some(value.as_str())
}

fn id(text: Option<&str>) -> Result<String, ParseError> {
    let valid = text.filter(|text| is_container_id(text));
    valid
        .map(str::to_owned)
        .ok_or(ParseError::Name("the sandbox's id"))
}

fn pod_name(namespace: Option<&str>, name: Option<&str>) -> Result<Option<PodName>, ParseError> {
    let (Some(namespace), Some(name)) = (namespace, name) else {
        return Ok(None);
    };
    let name = PodName::new(namespace, name).map_err(|_| ParseError::Name("the pod's name"))?;
    Ok(Some(name))
}

/// The network of a sandbox: a path where the runtime made the namespace beforehand; `None` where
/// the low-level runtime makes one that has no name.
fn network(file: &File) -> Option<Network> {
    let mut namespaces = file.linux.namespaces.iter();
    match namespaces.find(|namespace| namespace.r#type == "network") {
        Some(namespace) if namespace.path.is_empty() => None,
        Some(namespace) => Some(Network::Own(namespace.path.clone())),
        // Virtual machines and the like may have no namespaces at all.
        None if file.linux.namespaces.is_empty() => None,
        None => Some(Network::Host),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TASKS: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/cri/run/containerd/io.containerd.runtime.v2.task/k8s.io/"
    );
    const SANDBOX: &str = "be5f355e645675f42075859138209e1277abc4a643bd5a33d16888ec98621531";
    const CONTAINER: &str = "93654ab60ba0ee04c2a086d8af5adb551cf163233d81c755764640926e8eb563";

    fn fixture(id: &str) -> OciContainer {
        let bytes = std::fs::read(format!("{TASKS}{id}/config.json")).unwrap();
        parse(&bytes).unwrap().unwrap()
    }

    #[test]
    fn a_sandbox_of_containerd() {
        let expected = OciContainer {
            runtime: Source::Containerd,
            sandbox: SANDBOX.to_owned(),
            is_sandbox: true,
            pod: Some(PodName::new("default", "nginx-7c5ddbdf54-x8k2p").unwrap()),
            uid: Uid::new("4990d984-10d7-4903-89be-5be14e76c05a"),
            name: None,
            network: Some(Network::Own(
                "/var/run/netns/cni-22152ca6-899e-e873-1a4b-8a6253e88db3".to_owned(),
            )),
            addresses: vec![],
        };
        assert_eq!(fixture(SANDBOX), expected);
        let pid = std::fs::read(format!("{TASKS}{SANDBOX}/init.pid")).unwrap();
        assert_eq!(parse_pid(&pid), Some(24228));
    }

    #[test]
    fn a_container_of_containerd() {
        let container = fixture(CONTAINER);
        assert_eq!(
            (container.sandbox.as_str(), container.is_sandbox),
            (SANDBOX, false)
        );
        assert_eq!(container.name.as_deref(), Some("web"));
        assert_eq!(container.pod, fixture(SANDBOX).pod);
        // It joined its sandbox's by the sandbox's process.
        assert_eq!(container.network, None);
    }

    #[test]
    fn a_sandbox_and_a_container_of_crio() {
        let sandbox = r#"{"annotations":{"io.kubernetes.cri-o.SandboxID":"ab12",
            "io.kubernetes.cri-o.ContainerType":"sandbox","io.kubernetes.cri-o.KubeName":"web-0",
            "io.kubernetes.cri-o.Namespace":"shop","io.kubernetes.cri-o.HostNetwork":"false",
            "io.kubernetes.cri-o.IP.0":"10.85.0.7","io.kubernetes.cri-o.IP.1":"fd00::7",
            "io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.uid\":\"u-1\",\"io.kubernetes.pod.name\":\"web-0\"}"},
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/var/run/netns/x"}]}}"#;
        let sandbox = parse(sandbox.as_bytes()).unwrap().unwrap();
        assert_eq!(sandbox.runtime, Source::Crio);
        assert_eq!(sandbox.pod.unwrap().to_string(), "shop/web-0");
        assert_eq!(
            sandbox.network,
            Some(Network::Own("/var/run/netns/x".to_owned()))
        );
        assert_eq!((sandbox.addresses.len(), sandbox.uid), (2, Uid::new("u-1")));
        let container = r#"{"annotations":{"io.kubernetes.cri-o.SandboxID":"ab12",
            "io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.Labels":
            "{\"io.kubernetes.pod.namespace\":\"shop\",\"io.kubernetes.pod.name\":\"web-0\",\"io.kubernetes.container.name\":\"app\"}"}}"#;
        let container = parse(container.as_bytes()).unwrap().unwrap();
        assert_eq!(container.pod.unwrap().to_string(), "shop/web-0");
        assert_eq!(
            (container.name.as_deref(), container.is_sandbox),
            (Some("app"), false)
        );
    }

    #[test]
    fn a_sandbox_without_a_network_namespace_uses_the_nodes() {
        let text = |namespaces: &str| {
            format!(
                r#"{{"annotations":{{"io.kubernetes.cri.sandbox-id":"a",
                "io.kubernetes.cri.container-type":"sandbox"}},"linux":{{"namespaces":{namespaces}}}}}"#
            )
        };
        let network = |namespaces| parse(text(namespaces).as_bytes()).unwrap().unwrap().network;
        assert_eq!(network(r#"[{"type":"pid"}]"#), Some(Network::Host));
        assert_eq!(network(r#"[{"type":"network"}]"#), None);
        assert_eq!(network("[]"), None);
    }

    #[test]
    fn what_is_of_no_pod_is_none_and_what_is_malformed_is_refused() {
        assert_eq!(parse(b"{}").unwrap(), None);
        assert_eq!(parse(br#"{"annotations":{"a":"b"}}"#).unwrap(), None);
        let refused: [&[u8]; 5] = [
            b"",
            b"[",
            br#"{"annotations":{"io.kubernetes.cri.sandbox-id":"../x"}}"#,
            br#"{"annotations":{"io.kubernetes.cri.sandbox-id":1}}"#,
            br#"{"annotations":{"io.kubernetes.cri.sandbox-id":"a",
                "io.kubernetes.cri.sandbox-namespace":"A","io.kubernetes.cri.sandbox-name":"b"}}"#,
        ];
        for bytes in refused {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        for bytes in [&b""[..], b"-1", b"x", b"99999999999", b"\xff"] {
            assert_eq!(parse_pid(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse(&bytes), parse_pid(&bytes));
        }

        #[test]
        fn any_cut_of_a_file_is_refused(cut in 0usize..3093) {
            let bytes = std::fs::read(format!("{TASKS}{SANDBOX}/config.json")).unwrap();
            prop_assert!(parse(&bytes[..cut]).is_err());
        }
    }
}
