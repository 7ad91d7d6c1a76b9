//! Sets as `ipset save` prints them, and packets in them; what the kernel lists against the program.

use std::{collections::BTreeSet, net::IpAddr};

use proptest::prelude::*;

use super::{Sets, live};
use crate::node::{
    rules::{
        decision::Decision,
        subject::{Bits, DeviceName, Hook, Subject},
    },
    testing::{in_new_netns, root, run},
};

const ALL: &str = "\
create addresses hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x3c2f1a08
add addresses 10.244.0.2
add addresses 10.244.0.3 timeout 599 packets 3 bytes 180 comment \"pod a b\"
create blocks hash:ip family inet hashsize 1024 maxelem 65536 netmask 24
add blocks 10.1.2.0
create nets hash:net family inet hashsize 1024 maxelem 65536
add nets 10.244.0.0/16
add nets 10.244.7.0/24 nomatch
add nets 10.244.7.9
create nets6 hash:net family inet6 hashsize 1024 maxelem 65536
add nets6 2001:db8::/32
create fronts hash:ip,port family inet hashsize 1024 maxelem 65536 comment
add fronts 10.96.0.10,udp:53 comment \"kube-dns nomatch\"
add fronts 10.96.0.80,tcp:80 comment \"\"
add fronts 10.96.0.80,icmp:8/0
create loops hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add loops 10.244.0.3,tcp:8080,10.244.0.3
create sources hash:ip,port,net family inet hashsize 1024 maxelem 65536
add sources 10.96.0.80,tcp:80,192.168.0.0/24
create targets hash:net,port family inet hashsize 1024 maxelem 65536
add targets 10.0.0.0/8,sctp:9
create pairs hash:net,net family inet hashsize 1024 maxelem 65536
add pairs 10.244.0.0/16,10.96.0.0/12
add pairs 10.244.0.0/24,10.96.0.0/16 nomatch
create ports bitmap:port range 30000-32767
add ports 30080
create marks hash:ip,mark family inet markmask 0x0000ff00 hashsize 1024 maxelem 65536
add marks 10.244.0.2,0x00004000
create places hash:net,iface family inet hashsize 1024 maxelem 65536
add places 0.0.0.0/0,eth0
add places 10.0.0.0/8,physdev:veth1
add places 10.0.0.0/8,cali wildcard
create cards hash:mac hashsize 1024 maxelem 65536
add cards 02:42:ac:11:00:02
create all list:set size 8
add all nets6
add all addresses
create odd tree:what
add odd 10.0.0.0
";

fn packet(source: &str, destination: &str) -> Subject {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    Subject {
        source_port: Some(40_000),
        destination_port: Some(80),
        ..Subject::new(Hook::Forward, ip(source), ip(destination), 6)
    }
}

#[track_caller]
fn decides(set: &str, ends: &str, subject: &Subject, expected: Option<bool>) {
    let sets = Sets::parse(ALL).unwrap();
    let ends: Vec<&str> = ends.split(',').collect();
    let decision = sets.has(set, &ends, subject);
    let said = match decision {
        Decision::Yes => Some(true),
        Decision::No => Some(false),
        Decision::Unknown(_) => None,
    };
    assert_eq!(said, expected, "{set} {ends:?} {subject:?}: {decision:?}");
}

#[test]
fn what_is_parsed_is_printed_as_it_was() {
    let sets = Sets::parse(ALL).unwrap();
    assert_eq!(sets.to_string(), ALL);
    assert_eq!((sets.all().len(), sets.elements()), (15, 24));
    let saved = serde_json::to_string(&sets).unwrap();
    let read: Sets = serde_json::from_str(&saved).unwrap();
    assert_eq!(read, sets);
    assert!(Sets::parse("").unwrap().is_empty());
}

#[test]
fn words_with_blanks_come_back() {
    // Found by fuzzing: a type that needs its quotes.
    let text = "create \"a b\" \"hash:ip \" \"\"\nadd \"a b\" \"10.0.0.1 \" comment \"\"\n";
    assert_eq!(Sets::parse(text).unwrap().to_string(), text);
}

#[test]
fn addresses_and_networks() {
    let pod = packet("10.244.0.2", "10.244.7.8");
    decides("addresses", "src", &pod, Some(true));
    decides("addresses", "dst", &pod, Some(false));
    decides(
        "blocks",
        "dst",
        &packet("10.0.0.1", "10.1.2.77"),
        Some(true),
    );
    decides(
        "blocks",
        "dst",
        &packet("10.0.0.1", "10.1.3.77"),
        Some(false),
    );
    decides("nets", "src", &pod, Some(true));
    decides("nets", "dst", &pod, Some(false));
    decides("nets", "dst", &packet("10.0.0.1", "10.244.7.9"), Some(true));
    decides(
        "nets6",
        "dst",
        &packet("2001:db9::1", "2001:db8::1"),
        Some(true),
    );
    decides(
        "nets6",
        "src",
        &packet("2001:db9::1", "2001:db8::1"),
        Some(false),
    );
    // Of another family.
    decides("nets6", "dst", &pod, Some(false));
    // In a list: any of its sets, of whichever family.
    decides("all", "src", &pod, Some(true));
    decides("all", "dst", &pod, Some(false));
    decides(
        "all",
        "dst",
        &packet("2001:db9::1", "2001:db8::1"),
        Some(true),
    );
}

#[test]
fn ports_with_addresses() {
    let call = packet("192.168.0.7", "10.96.0.80");
    decides("fronts", "dst,dst", &call, Some(true));
    decides("fronts", "src,dst", &call, Some(false));
    // Too few directions.
    decides("fronts", "dst", &call, Some(false));
    let udp = Subject {
        protocol: 17,
        ..call.clone()
    };
    decides("fronts", "dst,dst", &udp, Some(false));
    let unknown = Subject {
        destination_port: None,
        ..call.clone()
    };
    decides("fronts", "dst,dst", &unknown, None);
    decides(
        "fronts",
        "dst,dst",
        &Subject {
            fragment: Some(true),
            ..unknown
        },
        Some(false),
    );
    let ping = Subject {
        protocol: 1,
        icmp: Some((8, 0)),
        ..call.clone()
    };
    decides("fronts", "dst,dst", &ping, Some(true));
    decides(
        "fronts",
        "dst,dst",
        &Subject {
            icmp: Some((0, 0)),
            ..ping
        },
        Some(false),
    );
    decides("sources", "dst,dst,src", &call, Some(true));
    decides(
        "sources",
        "dst,dst,src",
        &packet("192.168.1.7", "10.96.0.80"),
        Some(false),
    );
    let hairpin = Subject {
        destination_port: Some(8080),
        ..packet("10.244.0.3", "10.244.0.3")
    };
    decides("loops", "dst,dst,src", &hairpin, Some(true));
    let sctp = Subject {
        protocol: 132,
        destination_port: Some(9),
        ..call.clone()
    };
    decides("targets", "dst,dst", &sctp, Some(true));
    let node_port = Subject {
        destination_port: Some(30080),
        ..call
    };
    decides("ports", "dst", &node_port, Some(true));
    decides("ports", "src", &node_port, Some(false));
    decides(
        "ports",
        "dst",
        &Subject {
            protocol: 132,
            ..node_port
        },
        Some(false),
    );
}

#[test]
fn two_networks_marks_devices_and_what_is_not_known() {
    decides(
        "pairs",
        "src,dst",
        &packet("10.244.9.1", "10.97.0.1"),
        Some(true),
    );
    decides(
        "pairs",
        "src,dst",
        &packet("10.244.0.1", "10.96.0.1"),
        Some(false),
    );
    decides(
        "pairs",
        "src,dst",
        &packet("10.244.0.1", "10.97.0.1"),
        Some(true),
    );
    let pod = packet("10.244.0.2", "10.0.0.1");
    decides("marks", "src,src", &pod, None);
    let marked = |mark| Subject {
        mark: Bits::exactly(mark),
        ..pod.clone()
    };
    decides("marks", "src,src", &marked(0x4001), Some(true));
    decides("marks", "src,src", &marked(0x4100), Some(false));
    let from = |name: &str| Subject {
        input: DeviceName::Is(name.into()),
        ..pod.clone()
    };
    decides("places", "src,src", &from("cali123"), Some(true));
    let elsewhere = packet("192.0.2.1", "10.0.0.1");
    let elsewhere = Subject {
        input: DeviceName::Is("eth0".into()),
        ..elsewhere
    };
    decides("places", "src,src", &elsewhere, Some(true));
    decides(
        "places",
        "src,src",
        &Subject {
            input: DeviceName::Absent,
            ..elsewhere
        },
        Some(false),
    );
    let known = Subject {
        bridge_input: DeviceName::Is("veth1".into()),
        ..from("cni0")
    };
    decides("places", "src,src", &known, Some(true));
    decides("cards", "src", &pod, None);
    decides("odd", "src", &pod, None);
    decides("nowhere", "src", &pod, None);
}

#[test]
fn what_is_not_of_ipset_save_is_refused_with_its_line() {
    for (text, line, said) in [
        ("create a hash:ip\ncreate a hash:ip\n", 2, "second time"),
        ("add a 10.0.0.1\n", 1, "no set `a`"),
        ("\nflush a\n", 2, "`flush a` is no line"),
        ("create a hash:ip comment \"x\n", 1, "quote"),
        ("create a hash:ip x\"y\n", 1, "quote"),
        ("create a\n", 1, "no line"),
    ] {
        let error = Sets::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// What of a listing decides which packets a set has, in the order of [`live::read`].
fn deciding(saved: &str) -> BTreeSet<String> {
    let keep = |words: &[&str], with_value: &[&str], alone: &[&str]| {
        let mut kept = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if with_value.contains(word) {
                kept.push((*word).to_owned());
                kept.extend(rest.next().map(|value| (*value).to_owned()));
            } else if alone.contains(word) {
                kept.push((*word).to_owned());
            }
        }
        kept
    };
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (head, rest) = words.split_at(3);
        let kept = keep(
            rest,
            &["family", "netmask", "markmask"],
            &["nomatch", "wildcard"],
        );
        let head = head.iter().map(|word| (*word).to_owned());
        head.chain(kept)
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase()
    };
    saved.lines().map(line).collect()
}

#[test]
fn the_kernel_lists_what_the_program_saves() {
    if !root() {
        return;
    }
    in_new_netns(|| {
        if !run("ipset create x hash:ip") {
            return println!("skipped: ipset does not work here");
        }
        // Not every kernel has every type.
        let mut missing: BTreeSet<&str> = BTreeSet::new();
        for line in ALL.lines() {
            let name = line.split(' ').nth(1).unwrap();
            let plain = line.split(" timeout ").next().unwrap();
            let plain = plain.split(" bucketsize ").next().unwrap();
            let plain = plain.split(" comment \"").next().unwrap();
            if missing.contains(name) {
                continue;
            }
            if !run(&format!("ipset {plain}")) {
                assert!(line.starts_with("create"), "{line}");
                missing.insert(name);
            }
        }
        assert!(missing.len() < 10, "{missing:?}");
        let all = Sets::parse(ALL).unwrap();
        let names: BTreeSet<&str> = all.names().filter(|name| !missing.contains(name)).collect();
        let listed = live::read(&names).unwrap();
        let path = crate::node::program::find("ipset").unwrap();
        let saved = crate::node::program::output(&path, &["save"], 1 << 20).unwrap();
        let saved: String = saved
            .lines()
            .filter(|line| !line.starts_with("create x "))
            .map(|line| format!("{}\n", line.replace("icmp:echo-request", "icmp:8/0")))
            .collect();
        let lines: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
        // Of ranges and sizes, nothing that a packet meets depends.
        let listed_sets = Sets::parse(&listed).unwrap();
        assert_eq!(lines, deciding(&saved), "{listed}\n--\n{saved}");
        assert_eq!(listed_sets.to_string(), listed);
        // Only what is asked for, and what that refers to.
        let some = live::read(&BTreeSet::from(["all"])).unwrap();
        let some = Sets::parse(&some).unwrap();
        let names: Vec<&str> = some.names().collect();
        assert_eq!(names, ["addresses", "all", "nets6"]);
    });
}

proptest! {
    #[test]
    fn any_text_is_sets_or_refused(text in "(create|add) [ab] (hash|bitmap|list):(ip|net|port|set)[ \"a-z]{0,8}\n(add [ab] [0-9./:,a-z]{0,20}( nomatch)?( comment \"[a-z ]{0,4}\")?\n){0,4}|\\PC{0,60}") {
        match Sets::parse(&text) {
            Ok(sets) => {
                let printed = sets.to_string();
                prop_assert_eq!(Sets::parse(&printed), Ok(sets), "{}", printed);
            }
            Err(error) => prop_assert!(error.line <= text.lines().count().max(1)),
        }
    }

    #[test]
    fn any_bytes_are_listed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let message = crate::node::netlink::Message { kind: 0, body: bytes };
        let names = BTreeSet::from([""]);
        if let Ok(text) = live::text(&[message], &names) {
            prop_assert!(Sets::parse(&text).is_ok(), "{}", text);
        }
    }
}
