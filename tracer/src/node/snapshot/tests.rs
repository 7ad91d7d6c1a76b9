//! Who had a number, an address or a name at some time.

use super::*;
use crate::node::link::{LinkKind, Prefix, Tunnel};

fn link(index: u32, name: &str, address: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: LinkKind::Veth,
        addresses: vec![Prefix {
            address: address.parse().unwrap(),
            length: 24,
        }],
        tunnel: Some(Tunnel { vni: 1, port: 8472 }),
        ..Link::default()
    }
}

fn netns(inode: u32, names: &[&str], links: Vec<Link>) -> Namespace {
    Namespace {
        inode,
        names: names.iter().map(|&name| name.to_owned()).collect(),
        links: links.into_iter().map(|link| (link.index, link)).collect(),
        ..Namespace::default()
    }
}

fn snapshot() -> Snapshot {
    let mut process = netns(7, &[], vec![]);
    process.process = Some(Process {
        pid: 12,
        comm: "nginx".to_owned(),
    });
    Snapshot::from(Contents {
        namespaces: vec![
            netns(9, &["pod-b"], vec![link(2, "eth0", "10.244.0.2")]),
            netns(5, &["pod-a", "old"], vec![link(2, "eth0", "10.244.0.2")]),
            process,
            netns(8, &[], vec![]),
        ],
        notes: vec!["a note".to_owned()],
        ..Contents::default()
    })
}

fn life(since: u64, pod: &str) -> Namespace {
    Namespace {
        since,
        pod: PodName::parse(pod).ok(),
        ..netns(5, &[], vec![])
    }
}

fn ended(since: u64, last: u64, until: u64, pod: &str) -> Past {
    let namespace = life(since, pod);
    Past {
        namespace,
        last,
        until,
    }
}

fn names_at(node: &Snapshot, times: &[u64]) -> Vec<Option<String>> {
    let name = |time: &u64| Some(node.at(5, *time)?.pod.as_ref()?.name().to_owned());
    times.iter().map(name).collect()
}

#[test]
fn a_number_means_who_had_it_at_the_time() {
    let node = Snapshot::from(Contents {
        namespaces: vec![life(70, "c")],
        past: vec![ended(30, 40, 45, "b"), ended(10, 20, 25, "a")],
        ..Contents::default()
    });
    let names = names_at(&node, &[5, 10, 22, 27, 30, 45, 46, 70, 99]);
    let expected = ["a", "a", "a", "b", "b", "b", "c", "c", "c"];
    assert_eq!(names, expected.map(|name| Some(name.to_owned())));
    assert!(node.at(6, 10).is_none());
}

#[test]
fn what_ended_is_known_while_nothing_else_has_its_number() {
    let node = Snapshot::from(Contents {
        past: vec![ended(10, 20, 25, "a")],
        ..Contents::default()
    });
    let a = Some("a".to_owned());
    assert_eq!(names_at(&node, &[5, 15, 99]), [a.clone(), a.clone(), a]);
    assert_eq!(node.display_name(5), "net:5", "it is not there now");
}

#[test]
fn between_two_looks_that_show_two_it_cannot_be_told() {
    let node = Snapshot::from(Contents {
        namespaces: vec![life(30, "b")],
        past: vec![ended(10, 20, 30, "a")],
        ..Contents::default()
    });
    let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
    assert_eq!(names_at(&node, &[20, 21, 29, 30]), [a, None, None, b]);
}

#[test]
fn names_fall_back_to_a_process_and_to_the_number() {
    let node = snapshot();
    let names: Vec<_> = [5, 7, 8, 9, 10]
        .map(|inode| node.display_name(inode))
        .into();
    assert_eq!(
        names,
        ["pod-a", "pid:12(nginx)", "net:8", "pod-b", "net:10"]
    );
}

#[test]
fn lookups_go_by_number_address_and_name() {
    let node = snapshot();
    assert_eq!(node.link(9, 2).unwrap().name, "eth0");
    assert_eq!(node.link(9, 3), None);
    assert_eq!(node.link(1, 2), None);
    let both = [LinkId { netns: 5, index: 2 }, LinkId { netns: 9, index: 2 }];
    assert_eq!(node.with_address("10.244.0.2".parse().unwrap()), both);
    assert!(node.with_address("10.244.0.3".parse().unwrap()).is_empty());
    assert_eq!(node.named("old"), [5]);
    assert!(node.named("new").is_empty());
}

#[test]
fn a_saved_snapshot_answers_the_same() {
    let node = snapshot();
    let text = serde_json::to_string(&node).unwrap();
    let read: Snapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(read, node);
    assert_eq!(read.named("pod-a"), [5]);
    assert_eq!(read.link(5, 2), node.link(5, 2));
}

#[test]
fn a_snapshot_of_another_version_is_read() {
    let text = r#"{"namespaces":[{"inode":5,"future":1},{"inode":5}],"later":[]}"#;
    let read: Snapshot = serde_json::from_str(text).unwrap();
    assert_eq!(read.namespaces().len(), 1);
    assert_eq!(read.display_name(5), "net:5");
}
