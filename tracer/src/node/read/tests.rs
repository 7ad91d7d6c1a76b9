use std::{collections::BTreeMap, thread};

use super::*;
use crate::node::{
    link::{Link, LinkId, LinkKind, Tunnel},
    testing::{Named, root},
};

fn find<'a>(snapshot: &'a Snapshot, netns: &Named, name: &str) -> &'a Link {
    let links = &snapshot.namespace(netns.inode()).unwrap().links;
    links.values().find(|link| link.name == name).unwrap()
}

#[test]
fn the_ends_of_pairs_find_each_other_though_their_numbers_repeat() {
    if !root() {
        return;
    }
    let nodes = ["left", "right"].map(Named::new);
    let pods = ["lp", "rp"].map(Named::new);
    let pair = |netns: &Named, end: &str, other: &Named| {
        netns.ip(&format!(
            "link add {end} index 5 type veth peer name eth0 index 2 netns {}",
            other.name
        ));
    };
    pair(&nodes[0], "veth0", &pods[0]);
    pair(&nodes[1], "veth0", &pods[1]);
    let between = format!(
        "link add wan0 index 9 type veth peer name wan0 index 9 netns {}",
        nodes[1].name
    );
    nodes[0].ip(&between);
    nodes[0].ip("link add here0 type veth peer name here1");
    let snapshot = read(HostRoot::default()).unwrap();
    let expect = |netns: &Named, name: &str, other: &Named, index: u32| {
        let netns_of = other.inode();
        let peer = find(&snapshot, netns, name).peer;
        assert_eq!(
            peer,
            Some(LinkId {
                netns: netns_of,
                index
            }),
            "{name}"
        );
    };
    for (node, pod) in nodes.iter().zip(&pods) {
        expect(node, "veth0", pod, 2);
        expect(pod, "eth0", node, 5);
    }
    expect(&nodes[0], "wan0", &nodes[1], 9);
    expect(&nodes[1], "wan0", &nodes[0], 9);
    expect(
        &nodes[0],
        "here0",
        &nodes[0],
        find(&snapshot, &nodes[0], "here1").index,
    );
}

#[test]
fn devices_are_described() {
    if !root() {
        return;
    }
    let netns = Named::new("kinds");
    netns.ip("link add cni0 type bridge");
    netns.ip("link add vx0 type vxlan id 7 dstport 8472 dev lo");
    netns.ip("link set vx0 master cni0");
    netns.ip("link set cni0 mtu 1400 up");
    netns.ip("address add 10.244.9.1/24 dev cni0");
    netns.ip("address add fd00:9::1/64 dev cni0 nodad");
    let snapshot = read(HostRoot::default()).unwrap();
    let bridge = find(&snapshot, &netns, "cni0");
    assert_eq!(
        (&bridge.kind, bridge.mtu, bridge.up),
        (&LinkKind::Bridge, 1400, true)
    );
    let addresses: Vec<String> = bridge.addresses.iter().map(ToString::to_string).collect();
    assert!(
        addresses.starts_with(&["10.244.9.1/24".to_owned()]),
        "{addresses:?}"
    );
    assert!(
        addresses.contains(&"fd00:9::1/64".to_owned()),
        "{addresses:?}"
    );
    let tunnel = find(&snapshot, &netns, "vx0");
    assert_eq!((&tunnel.kind, tunnel.up), (&LinkKind::Vxlan, false));
    assert_eq!(tunnel.tunnel, Some(Tunnel { vni: 7, port: 8472 }));
    assert_eq!(tunnel.master, Some(bridge.index));
    assert_eq!(find(&snapshot, &netns, "lo").kind, LinkKind::Loopback);
    let with_address = snapshot.with_address("10.244.9.1".parse().unwrap());
    assert_eq!(
        with_address,
        [LinkId {
            netns: netns.inode(),
            index: bridge.index
        }]
    );
}

#[test]
fn one_that_ends_meanwhile_costs_nothing_but_itself() {
    if !root() {
        return;
    }
    let mut reader = Reader::default();
    let (stays, ends) = (Named::new("stays"), Named::new("vanishes"));
    let inodes = [stays.inode(), ends.inode()];
    reader.look(true).unwrap();
    ends.delete();
    reader.read(&inodes).unwrap();
    let snapshot = reader.snapshot();
    assert_eq!(snapshot.namespace(inodes[0]).unwrap().links.len(), 1);
    assert!(snapshot.namespace(inodes[1]).unwrap().links.is_empty());
    let found = reader.look(true).unwrap();
    assert!(found.vanished.contains(&inodes[1]) && !found.vanished.contains(&inodes[0]));
}

#[test]
fn a_namespace_without_a_name_is_known_by_its_process() {
    if !root() {
        return;
    }
    let mut child = std::process::Command::new("unshare")
        .args(["--net", "sleep", "60"])
        .spawn()
        .unwrap();
    let host = netns::current().unwrap();
    let path = format!("/proc/{}/ns/net", child.id());
    crate::node::testing::wait_until("it is in its namespace", || {
        let inode = std::fs::File::open(&path).and_then(|file| netns::inode_of(&file));
        inode.is_ok_and(|inode| inode != host)
    });
    let inode = netns::inode_of(&std::fs::File::open(&path).unwrap()).unwrap();
    let snapshot = read(HostRoot::default()).unwrap();
    let name = snapshot.display_name(inode).into_owned();
    assert!(name.starts_with(&format!("pid:{}(", child.id())), "{name}");
    assert_eq!(snapshot.namespace(inode).unwrap().links.len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_the_right_to_enter_namespaces_they_are_listed_and_notes_say_so() {
    if !root() {
        return;
    }
    let netns = Named::new("denied");
    // The capability is dropped by one thread, for itself.
    let snapshot = thread::scope(|scope| {
        let work = || {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).unwrap();
            read(HostRoot::default()).unwrap()
        };
        scope.spawn(work).join().unwrap()
    });
    assert_eq!(snapshot.named(&netns.name), [netns.inode()]);
    assert!(
        snapshot
            .notes()
            .iter()
            .any(|note| note.contains("CAP_SYS_ADMIN"))
    );
}

#[test]
fn many_failures_are_few_notes() {
    let notes: BTreeMap<u32, String> = (0..100).map(|i| (i, format!("note {i}"))).collect();
    let reader = Reader {
        notes,
        ..Reader::default()
    };
    let snapshot = reader.snapshot();
    assert_eq!(snapshot.notes().len(), NOTES + 1);
    assert!(snapshot.notes()[NOTES].contains("92 more"));
}
