use std::sync::mpsc;

use super::*;
use crate::node::testing::{Named, root, run, wait_until};

/// A watch on which nothing happens by time alone.
fn start() -> (Watch, mpsc::Receiver<Change>) {
    let (send, changes) = mpsc::channel();
    let on_change = move |change| {
        let _ = send.send(change);
    };
    let watch =
        Watch::start_with(Duration::from_secs(3600), HostRoot::default(), on_change).unwrap();
    (watch, changes)
}

fn link_names(watch: &Watch, inode: u32) -> Vec<String> {
    let snapshot = watch.snapshot();
    let links = snapshot.namespace(inode).map(|netns| netns.links.values());
    links
        .into_iter()
        .flatten()
        .map(|link| link.name.clone())
        .collect()
}

#[test]
fn namespaces_appear_and_vanish_without_waiting_for_the_next_round() {
    if !root() {
        return;
    }
    let (watch, changes) = start();
    let netns = Named::new("watched");
    let inode = netns.inode();
    let is_new = |change: Change| matches!(change, Change::Appeared(entry) if entry.inode == inode);
    wait_until("it appears", || changes.try_iter().any(is_new));
    wait_until("it is read", || link_names(&watch, inode) == ["lo"]);
    assert_eq!(watch.snapshot().display_name(inode), netns.name);
    netns.delete();
    let is_gone = |change| change == Change::Vanished(inode);
    wait_until("it vanishes", || changes.try_iter().any(is_gone));
    wait_until("it is forgotten", || {
        watch.snapshot().namespace(inode).is_none()
    });
}

#[test]
fn all_that_exist_at_the_start_are_reported_before_it_returns() {
    let (watch, changes) = start();
    let appeared = |change| match change {
        Change::Appeared(entry) => Some(entry.inode),
        _ => None,
    };
    let reported: BTreeSet<u32> = changes.try_iter().filter_map(appeared).collect();
    let snapshot = watch.snapshot();
    assert!(snapshot.namespaces().iter().any(|netns| netns.own));
    // Another test's namespace can have come since.
    assert!(!reported.is_empty());
}

#[test]
fn what_is_asked_for_is_read_again() {
    if !root() {
        return;
    }
    let netns = Named::new("asked");
    let (watch, _changes) = start();
    let inode = netns.inode();
    wait_until("it is read", || link_names(&watch, inode) == ["lo"]);
    netns.ip("link add later0 type bridge");
    watch.requests().request(inode);
    wait_until("it is read again", || {
        link_names(&watch, inode) == ["lo", "later0"]
    });
    // Numbers that mean nothing are no harm.
    watch.requests().request(1);
    netns.ip("link del later0");
    watch.requests().request(inode);
    wait_until("also a second time", || link_names(&watch, inode) == ["lo"]);
}

#[test]
fn a_new_pods_device_on_the_node_is_found_with_it() {
    if !root() {
        return;
    }
    let node = Named::new("node");
    let (watch, _changes) = start();
    let pod = Named::new("pod");
    node.ip(&format!(
        "link add veth0 type veth peer name eth0 netns {}",
        pod.name
    ));
    let (node, pod) = (node.inode(), pod.inode());
    watch.requests().request(pod);
    wait_until("the pair is known from both ends", || {
        let snapshot = watch.snapshot();
        let find = |netns, name: &str| {
            let links = &snapshot.namespace(netns)?.links;
            links
                .values()
                .find(|link| link.name == name)?
                .peer
                .map(|peer| peer.netns)
        };
        find(node, "veth0") == Some(pod) && find(pod, "eth0") == Some(node)
    });
}

#[test]
fn a_deleted_namespace_ends_while_it_is_watched() {
    if !root() {
        return;
    }
    let node = Named::new("outlives");
    let pod = Named::new("ends");
    node.ip(&format!(
        "link add veth0 type veth peer name eth0 netns {}",
        pod.name
    ));
    let (watch, _changes) = start();
    let inode = node.inode();
    wait_until("both are read", || {
        let snapshot = watch.snapshot();
        snapshot
            .link(inode, 2)
            .is_some_and(|link| link.peer.is_some())
    });
    pod.delete();
    // The kernel deletes a pair with the namespace of either end: the witness that it ended.
    wait_until("the other end goes", || {
        watch.requests().request(inode);
        link_names(&watch, inode) == ["lo"]
    });
}

#[test]
fn a_namespace_that_only_an_open_descriptor_keeps_has_vanished() {
    if !root() {
        return;
    }
    let netns = Named::new("kept");
    let (watch, changes) = start();
    let inode = netns.inode();
    // What a netfilter link or the attacher itself would be.
    let kept = File::open(format!("/run/netns/{}", netns.name)).unwrap();
    assert!(watch.snapshot().namespace(inode).is_some());
    netns.delete();
    let is_gone = |change| change == Change::Vanished(inode);
    wait_until("it vanishes", || changes.try_iter().any(is_gone));
    drop(kept);
}

#[test]
fn dropping_it_ends_its_thread() {
    let (watch, changes) = start();
    drop(watch);
    // The thread owned the sender.
    while changes.recv().is_ok() {}
}

#[test]
fn rules_and_their_changes_are_in_the_snapshots() {
    if !root() {
        return;
    }
    let named = Named::new("rules");
    let inode = named.inode();
    let inside = |line: &str| run(&format!("ip netns exec {} {line}", named.name));
    if !inside("iptables-nft -A FORWARD -j DROP") {
        return println!("skipped: iptables-nft does not work here");
    }
    let (watch, _changes) = start();
    let sizes = || {
        let snapshot = watch.snapshot();
        let rules = &snapshot.namespace(inode).unwrap().rules;
        let first_and_last = rules.around(0).chain(rules.last());
        first_and_last
            .map(|version| version.rules.size())
            .collect::<Vec<_>>()
    };
    watch.wait_for_rules(Duration::from_secs(60));
    wait_until("they are read", || sizes() == [1, 1]);
    assert!(inside("iptables-nft -I FORWARD -j ACCEPT"));
    wait_until("one more is read", || sizes() == [1, 2]);
    if inside("iptables-legacy -A FORWARD -j DROP") {
        wait_until("also the other back end's", || sizes() == [1, 3]);
    }
    assert!(inside("iptables-nft -F FORWARD"));
    wait_until("fewer are read", || sizes().last() < Some(&2));
}
