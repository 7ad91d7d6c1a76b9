//! The pods, with what was learnt of each from where.

use serde::Serialize;

use super::push_line;
use crate::node::{
    cluster::{Cluster, ClusterPod},
    pods::{Container, Evidence, Fact, Pod, PodNetwork, Uid},
    rules,
    snapshot::Snapshot,
};

/// For people: a line for each pod, below it one for each place that says something of it.
pub(super) fn text(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for pod in snapshot.pods() {
        lines.push(heading(snapshot, pod));
        let told = pod.evidence.iter().filter(|told| !told.facts.is_empty());
        let rows: Vec<(String, &Evidence)> = told.map(|told| (facts(told), told)).collect();
        let width = rows.iter().map(|(facts, _)| facts.len()).max().unwrap_or(0);
        lines.extend(rows.iter().map(|(facts, told)| {
            format!("      {facts:width$}  {:10}  {}", told.source, told.place)
        }));
    }
    for pod in elsewhere(snapshot) {
        let node = pod.node.iter().map(|node| format!("on {node}"));
        let host = pod.host_network.then(|| "in its node's network".to_owned());
        let known: Vec<String> = node
            .chain(host)
            .chain(pod.addresses.iter().map(ToString::to_string))
            .chain(["by kubernetes-api".to_owned()])
            .collect();
        lines.push(format!("pod {}  {}", pod.name, known.join(", ")));
    }
    lines
}

/// The pods that the Kubernetes API knows and this node does not.
fn elsewhere(snapshot: &Snapshot) -> impl Iterator<Item = &ClusterPod> {
    let all = snapshot.cluster().into_iter().flat_map(Cluster::pods);
    all.filter(|pod| snapshot.pods_named(&pod.name).next().is_none())
}

fn heading(snapshot: &Snapshot, pod: &Pod) -> String {
    let mut known = Vec::new();
    known.extend(pod.uid.as_ref().map(|uid| format!("uid {uid}")));
    known.push(match pod.network {
        PodNetwork::Own(inode) => format!("in {}", snapshot.display_name(inode)),
        PodNetwork::Host => "in the node's network".to_owned(),
    });
    known.extend(pod.addresses.iter().map(ToString::to_string));
    known.extend(pod.containers.iter().filter_map(container));
    format!("pod {}  {}", pod.name, known.join(", "))
}

fn container(container: &Container) -> Option<String> {
    let pid = container.pid.map(|pid| format!("process {pid}"));
    match (&container.name, pid) {
        (Some(name), Some(pid)) => Some(format!("{name} ({pid})")),
        (Some(name), None) => Some(name.clone()),
        (None, pid) => pid,
    }
}

fn facts(told: &Evidence) -> String {
    let facts: Vec<&str> = told.facts.iter().map(|fact| fact.as_str()).collect();
    facts.join(", ")
}

#[derive(Serialize)]
struct PodLine<'a> {
    pod: String,
    namespace: &'a str,
    name: &'a str,
    uid: Option<&'a str>,
    sandbox: Option<&'a str>,
    /// Its node, where that is another one.
    node: Option<&'a str>,
    host_network: bool,
    netns: Option<NetnsObject>,
    addresses: Vec<String>,
    containers: &'a [Container],
    sources: Vec<SourceObject<'a>>,
}

#[derive(Serialize)]
struct NetnsObject {
    inode: u32,
    name: String,
}

#[derive(Serialize)]
struct SourceObject<'a> {
    source: &'static str,
    place: &'a str,
    facts: Vec<&'static str>,
}

/// For programs: one object a line.
pub(super) fn json(snapshot: &Snapshot, lines: &mut String) -> serde_json::Result<()> {
    for pod in snapshot.pods() {
        let netns = pod.network.own().map(|inode| NetnsObject {
            inode,
            name: snapshot.display_name(inode).into_owned(),
        });
        let line = PodLine {
            pod: pod.name.to_string(),
            namespace: pod.name.namespace(),
            name: pod.name.name(),
            uid: pod.uid.as_ref().map(Uid::as_str),
            sandbox: pod.sandbox.as_deref(),
            node: None,
            host_network: pod.network == PodNetwork::Host,
            netns,
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            containers: &pod.containers,
            sources: pod.evidence.iter().map(source).collect(),
        };
        push_line(lines, "pod", line)?;
    }
    for pod in elsewhere(snapshot) {
        let line = PodLine {
            pod: pod.name.to_string(),
            namespace: pod.name.namespace(),
            name: pod.name.name(),
            uid: None,
            sandbox: None,
            node: pod.node.as_deref(),
            host_network: pod.host_network,
            netns: None,
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            containers: &[],
            sources: vec![SourceObject {
                source: rules::path::Source::KubernetesApi.as_str(),
                place: "/api/v1/pods",
                facts: vec![Fact::Name.as_str(), Fact::Address.as_str()],
            }],
        };
        push_line(lines, "pod", line)?;
    }
    Ok(())
}

fn source(told: &Evidence) -> SourceObject<'_> {
    SourceObject {
        source: told.source.as_str(),
        place: &told.place,
        facts: told.facts.iter().map(|fact| fact.as_str()).collect(),
    }
}
