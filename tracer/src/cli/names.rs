//! `tracer names`: what this node knows, and from where.

mod pods;
mod services;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    node::{
        cluster::{self, Cluster, api::Asking},
        link::{Link, Tunnel},
        read,
        snapshot::{Namespace, Process, Snapshot},
    },
    output::sanitize,
};

use super::arguments::HostArgs;

/// How long the Kubernetes API may take.
const LONGEST: Duration = Duration::from_secs(15);

/// Show what this node knows: network namespaces, devices, addresses, pods, rules and Services, and
/// from where
#[derive(Clone, Debug, clap::Args)]
pub struct NamesArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgs,
}

/// Reads the node and prints what it knows.
///
/// # Errors
/// When nothing can be read, or the output cannot be written.
pub fn run(args: &NamesArgs) -> anyhow::Result<()> {
    let (sender, told) = mpsc::channel();
    let access = args.host.kubernetes()?;
    let asking =
        access.map(|access| Asking::start(&access, move |cluster| drop(sender.send(cluster))));
    let asking = asking.transpose()?;
    let mut snapshot = read::read(args.host.root()?)?;
    if asking.is_some() {
        snapshot = snapshot.with_cluster(Arc::new(answer(&told)));
    }
    let shown = if args.json {
        json(&snapshot)?
    } else {
        text(&snapshot)
    };
    match io::stdout().lock().write_all(shown.as_bytes()) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// What the Kubernetes API says when it has said everything, or took too long for it.
fn answer(told: &Receiver<Cluster>) -> Cluster {
    let end = Instant::now() + LONGEST;
    let mut last = None;
    while last
        .as_ref()
        .is_none_or(|cluster: &Cluster| !cluster.is_settled())
    {
        match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(cluster) => last = Some(cluster),
            Err(_) => break,
        }
    }
    last.unwrap_or_else(|| {
        let note = format!("kubernetes-api: no answer within {} s", LONGEST.as_secs());
        Cluster::from(cluster::Contents {
            notes: vec![note],
            ..cluster::Contents::default()
        })
    })
}

/// What could not be read, and why.
fn notes(snapshot: &Snapshot) -> impl Iterator<Item = &String> {
    let cluster = snapshot.cluster().into_iter();
    snapshot
        .notes()
        .iter()
        .chain(cluster.flat_map(Cluster::notes))
}

/// For people: a line for each namespace, below it one for each device; then the pods.
fn text(snapshot: &Snapshot) -> String {
    let mut lines = Vec::new();
    for netns in snapshot.namespaces() {
        lines.push(heading(netns));
        let links: Vec<&Link> = netns.links.values().collect();
        let name_width = links.iter().map(|link| link.name.chars().count()).max();
        let kind_width = links.iter().map(|link| link.kind.as_str().len()).max();
        let widths = (name_width.unwrap_or(0), kind_width.unwrap_or(0));
        lines.extend(links.iter().map(|link| row(snapshot, netns, link, widths)));
    }
    lines.extend(pods::text(snapshot));
    lines.extend(services::text(snapshot));
    lines.extend(notes(snapshot).map(|note| format!("note: {note}")));
    lines
        .iter()
        .map(|line| format!("{}\n", sanitize::plain(line).trim_end()))
        .collect()
}

fn heading(netns: &Namespace) -> String {
    let mut facts = vec![format!("net:{}", netns.inode)];
    facts.extend(netns.pod.as_ref().map(|pod| format!("pod {pod}")));
    if netns.own {
        facts.push("this process's own".to_owned());
    }
    // Without a name it is called by its process already.
    if let Some(Process { pid, comm }) = netns.process.as_ref().filter(|_| !netns.names.is_empty())
    {
        facts.push(format!("process {pid} ({comm})"));
    }
    facts.extend(netns.mounts.iter().cloned());
    format!("{}  {}", netns.display_name(), facts.join(", "))
}

fn row(snapshot: &Snapshot, netns: &Namespace, link: &Link, widths: (usize, usize)) -> String {
    let state = if link.up { "up" } else { "down" };
    let mut facts = Vec::new();
    if let Some(peer) = link.peer {
        let name = snapshot.link(peer.netns, peer.index).map(|link| &link.name);
        let name = name
            .cloned()
            .unwrap_or_else(|| format!("device {}", peer.index));
        facts.push(format!(
            "to {name} in {}",
            snapshot.display_name(peer.netns)
        ));
    }
    if let Some(master) = link.master {
        let name = netns.links.get(&master).map(|link| link.name.clone());
        facts.push(format!(
            "port of {}",
            name.unwrap_or_else(|| format!("device {master}"))
        ));
    }
    if let Some(Tunnel { vni, port }) = link.tunnel {
        facts.push(format!("vni {vni} port {port}"));
    }
    facts.extend(link.addresses.iter().map(ToString::to_string));
    format!(
        "{:>6} {:name$}  {:kind$}  {state:4}  mtu {:5}  {}",
        link.index,
        link.name,
        link.kind.as_str(),
        link.mtu,
        facts.join(", "),
        name = widths.0,
        kind = widths.1,
    )
}

/// The version of these objects' form, as everywhere in the program's JSON.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Line<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct NamespaceLine<'a> {
    inode: u32,
    name: &'a str,
    names: &'a [String],
    initial: bool,
    own: bool,
    pod: Option<String>,
    process: Option<&'a Process>,
    mounts: &'a [String],
    links: Vec<LinkObject<'a>>,
}

#[derive(Serialize)]
struct LinkObject<'a> {
    index: u32,
    name: &'a str,
    kind: &'a str,
    up: bool,
    mtu: u32,
    master: Option<u32>,
    peer: Option<PeerObject>,
    tunnel: Option<Tunnel>,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct PeerObject {
    netns: String,
    inode: u32,
    index: u32,
    name: Option<String>,
}

#[derive(Serialize)]
struct NoteLine<'a> {
    text: &'a str,
}

/// For programs: one object a line.
fn json(snapshot: &Snapshot) -> serde_json::Result<String> {
    let mut lines = String::new();
    for netns in snapshot.namespaces() {
        let content = NamespaceLine {
            inode: netns.inode,
            name: &netns.display_name(),
            names: &netns.names,
            initial: netns.initial,
            own: netns.own,
            pod: netns.pod.as_ref().map(ToString::to_string),
            process: netns.process.as_ref(),
            mounts: &netns.mounts,
            links: netns
                .links
                .values()
                .map(|link| link_object(snapshot, link))
                .collect(),
        };
        push_line(&mut lines, "namespace", content)?;
    }
    pods::json(snapshot, &mut lines)?;
    services::json(snapshot, &mut lines)?;
    for text in notes(snapshot) {
        push_line(&mut lines, "note", NoteLine { text })?;
    }
    Ok(lines)
}

fn push_line<T: Serialize>(
    lines: &mut String,
    kind: &'static str,
    content: T,
) -> serde_json::Result<()> {
    let schema = SCHEMA;
    let line = Line {
        kind,
        schema,
        content,
    };
    lines.push_str(&sanitize::json(&serde_json::to_string(&line)?));
    lines.push('\n');
    Ok(())
}

fn link_object<'a>(snapshot: &Snapshot, link: &'a Link) -> LinkObject<'a> {
    LinkObject {
        index: link.index,
        name: &link.name,
        kind: link.kind.as_str(),
        up: link.up,
        mtu: link.mtu,
        master: link.master,
        peer: link.peer.map(|peer| PeerObject {
            netns: snapshot.display_name(peer.netns).into_owned(),
            inode: peer.netns,
            index: peer.index,
            name: snapshot
                .link(peer.netns, peer.index)
                .map(|link| link.name.clone()),
        }),
        tunnel: link.tunnel,
        addresses: link.addresses.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pods::HostRoot;

    /// A node with a bridge, a pod on it, and a name that tries to write on the terminal.
    fn snapshot() -> Snapshot {
        let text = r#"{
            "namespaces": [
                {"inode": 4026531840, "names": ["host"], "initial": true, "own": true,
                 "process": {"pid": 1, "comm": "systemd"},
                 "links": {
                    "1": {"index": 1, "name": "lo", "kind": "loopback", "up": true, "mtu": 65536,
                          "addresses": [{"address": "127.0.0.1", "length": 8}]},
                    "3": {"index": 3, "name": "cni0", "kind": "bridge", "up": true, "mtu": 1450,
                          "addresses": [{"address": "10.244.0.1", "length": 24}]},
                    "4": {"index": 4, "name": "flannel.1", "kind": "vxlan", "up": false,
                          "mtu": 1450, "tunnel": {"vni": 1, "port": 8472}},
                    "5": {"index": 5, "name": "veth0", "kind": "veth", "up": true, "mtu": 1450,
                          "master": 3, "peer": {"netns": 4026532001, "index": 2}},
                    "6": {"index": 6, "name": "veth1", "kind": "veth", "up": true, "mtu": 1450,
                          "master": 9, "peer": {"netns": 4026532009, "index": 2}}}},
                {"inode": 4026532001, "names": ["cni-1"], "mounts": ["/run/netns/cni-1"],
                 "pod": "default/web-0",
                 "links": {
                    "2": {"index": 2, "name": "eth0", "kind": "veth", "up": true, "mtu": 1450,
                          "peer": {"netns": 4026531840, "index": 5},
                          "addresses": [{"address": "10.244.0.2", "length": 24}]}}},
                {"inode": 4026532002, "process": {"pid": 9, "comm": "a\u001b[2Jb"}}],
            "pods": [
                {"name": "default/web-0", "uid": "4990d984-10d7", "sandbox": "be5f",
                 "network": {"own": 4026532001}, "addresses": ["10.244.0.2"],
                 "containers": [{"id": "93", "name": "web", "pid": 17}, {"id": "94"}],
                 "evidence": [
                    {"source": "cni-result", "place": "/var/lib/cni/results/cbr0-be5f-eth0",
                     "facts": ["name", "uid", "network", "address"]},
                    {"source": "cgroup", "place": "/proc/17/cgroup", "facts": ["process"]},
                    {"source": "pod-logs", "place": "/var/log/pods/x", "facts": []}]},
                {"name": "kube-system/kube-proxy-x", "network": "host"}],
            "notes": ["the namespaces of 2 processes cannot be read"]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn people_see_who_is_connected_to_whom() {
        insta::assert_snapshot!(text(&snapshot()), @"
        host  net:4026531840, this process's own, process 1 (systemd)
             1 lo         loopback  up    mtu 65536  127.0.0.1/8
             3 cni0       bridge    up    mtu  1450  10.244.0.1/24
             4 flannel.1  vxlan     down  mtu  1450  vni 1 port 8472
             5 veth0      veth      up    mtu  1450  to eth0 in cni-1, port of cni0
             6 veth1      veth      up    mtu  1450  to device 2 in net:4026532009, port of device 9
        cni-1  net:4026532001, pod default/web-0, /run/netns/cni-1
             2 eth0  veth  up    mtu  1450  to veth0 in host, 10.244.0.2/24
        pid:9(a[2Jb)  net:4026532002
        pod default/web-0  uid 4990d984-10d7, in cni-1, 10.244.0.2, web (process 17)
              name, uid, network, address  cni-result  /var/lib/cni/results/cbr0-be5f-eth0
              process                      cgroup      /proc/17/cgroup
        pod kube-system/kube-proxy-x  in the node's network
        note: the namespaces of 2 processes cannot be read
        ");
    }

    #[test]
    fn programs_get_one_object_a_line_and_nulls_for_the_unknown() {
        let shown = json(&snapshot()).unwrap();
        assert!(!shown.contains('\u{1b}'));
        let lines: Vec<serde_json::Value> = shown
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 6);
        assert!(lines.iter().all(|line| line["schema"] == 1));
        let links = &lines[0]["links"];
        assert_eq!(links[3]["peer"]["name"], "eth0");
        assert_eq!(links[3]["peer"]["netns"], "cni-1");
        assert_eq!(links[4]["peer"]["name"], serde_json::Value::Null);
        assert_eq!(links[0]["peer"], serde_json::Value::Null);
        assert_eq!(links[2]["tunnel"]["vni"], 1);
        assert_eq!(lines[2]["name"], "pid:9(a\u{1b}[2Jb)");
        assert_eq!(
            (&lines[1]["pod"], &lines[0]["pod"]),
            (&"default/web-0".into(), &None::<&str>.into())
        );
        let pod = &lines[3];
        assert_eq!(
            (&pod["type"], &pod["pod"]),
            (&"pod".into(), &"default/web-0".into())
        );
        assert_eq!(pod["netns"]["name"], "cni-1");
        assert_eq!(pod["containers"][1]["pid"], serde_json::Value::Null);
        assert_eq!(pod["sources"][0]["facts"][3], "address");
        assert_eq!(lines[4]["host_network"], true);
        assert_eq!(lines[4]["netns"], serde_json::Value::Null);
        assert_eq!(lines[5]["type"], "note");
    }

    #[test]
    fn this_node_can_be_shown() {
        let node = read::read(HostRoot::default()).unwrap();
        assert!(text(&node).contains("this process's own"));
        assert!(json(&node).unwrap().contains("\"own\":true"));
    }
}
