//! What kubelet, the container runtime and libcni leave on a node's disk for each pod.
//!
//! Below the lab's own root, for the machine's `/var` is not the lab's: who is to read it takes that
//! root for the node's (`TRACER_HOST_ROOT`). The plugins are called by the lab, not by libcni, so
//! its cache is written here, in its form (`cachedInfo` of libcni 1.1). Both nodes share the root,
//! as they share the kernel.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The namespace of all pods.
pub(super) const NAMESPACE: &str = "default";

/// What a pod is called, by the cluster and by its runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name in [`NAMESPACE`].
    pub name: String,
    /// What tells it from others of that name.
    pub uid: String,
    /// The sandbox's id.
    pub sandbox: String,
}

impl Identity {
    /// That of the pod `name` in the network namespace `netns`.
    pub(super) fn new(netns: &str, name: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(format!("{netns} {name}")).into();
        let sandbox: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |from, to| sandbox.get(from..to).unwrap_or_default();
        let uid = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| part(from, to));
        Self {
            name: name.to_owned(),
            uid: uid.join("-"),
            sandbox: sandbox.clone(),
        }
    }

    /// The runtime's arguments for the plugins, as containerd gives them.
    pub(super) fn arguments(&self) -> [(&'static str, &str); 5] {
        [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", NAMESPACE),
            ("K8S_POD_NAME", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.sandbox),
            ("K8S_POD_UID", &self.uid),
        ]
    }
}

/// An attachment as libcni remembers it.
pub(super) struct Attached<'a> {
    pub(super) identity: &'a Identity,
    /// The network's name.
    pub(super) network: &'a str,
    /// The plugin's configuration.
    pub(super) configuration: &'a Value,
    /// What the plugin answered.
    pub(super) answer: &'a Value,
}

/// Writes what there is of a pod that was attached.
pub(super) fn started(root: &Path, attached: &Attached<'_>) -> anyhow::Result<()> {
    let identity = attached.identity;
    make(&logs(root, identity), 0o755)?;
    let path = result(root, identity, attached.network);
    make(path.parent().context("no directory")?, 0o700)?;
    let cached = json!({
        "kind": "cniCacheV1",
        "containerId": identity.sandbox,
        "config": base64(attached.configuration.to_string().as_bytes()),
        "ifName": "eth0",
        "networkName": attached.network,
        "cniArgs": identity.arguments(),
        "capabilityArgs": {"io.kubernetes.cri.pod-annotations": {"kubernetes.io/config.source": "api"}},
        "result": attached.answer,
    });
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| io::Write::write_all(&mut file, cached.to_string().as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what libcni forgets when a pod is detached. Its logs stay a while.
pub(super) fn stopped(root: &Path, identity: &Identity, network: &str) -> anyhow::Result<()> {
    let path = result(root, identity, network);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn result(root: &Path, identity: &Identity, network: &str) -> PathBuf {
    let name = format!("{network}-{}-eth0", identity.sandbox);
    root.join("var/lib/cni/results").join(name)
}

fn logs(root: &Path, identity: &Identity) -> PathBuf {
    let name = format!("{NAMESPACE}_{}_{}", identity.name, identity.uid);
    root.join("var/log/pods").join(name)
}

fn make(directory: &Path, mode: u32) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(mode).create(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))
}

/// As Go writes bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - group.len()));
        for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let index = usize::try_from((word >> shift) & 63).unwrap_or_default();
            let known = digit <= group.len();
            text.push(if known {
                char::from(DIGITS[index])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_everywhere() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_pod_is_told_from_others_of_its_name() {
        let pod = Identity::new("tl0000-pod-a1", "a1");
        assert_eq!((pod.sandbox.len(), pod.uid.len()), (64, 36));
        assert_ne!(pod.uid, Identity::new("tl0001-pod-a1", "a1").uid);
    }
}
