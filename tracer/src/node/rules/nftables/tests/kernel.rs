//! The running kernel as the judge: real rules with counters, real packets, and the same packets led
//! through the listing. Needs root and nft; says so when it is skipped.
//!
//! Each case is a base chain of its own at the output hook, whose rules count and accept, which ends
//! that chain only; a last chain drops the packet, so that nothing answers it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::super::{RuleSet, live, model::Statement, read};
use crate::node::{
    rules::{
        evaluate::RuleSet as _,
        outcome::Observed,
        path::{Certainty, Place},
        subject::{AddressKind, Bits, DeviceName, Hook, States, Subject, Surroundings},
    },
    testing::{in_new_netns, root, run},
};

/// Rules for every packet below, each in a chain of its own; `;` parts the rules of one chain.
const CASES: [&str; 116] = [
    "ip saddr 127.0.0.1",
    "ip saddr != 127.0.0.1",
    "ip daddr 127.0.0.0/8",
    "ip daddr != 127.0.0.0/8",
    "ip daddr 127.0.0.2-127.0.0.9",
    "ip daddr != 127.0.0.2-127.0.0.9",
    "ip daddr < 127.0.0.2",
    "ip daddr >= 127.0.0.2",
    "ip daddr { 127.0.0.1, 10.0.0.0/8 }",
    "ip daddr != { 127.0.0.1, 10.0.0.0/8 }",
    "ip daddr @addresses",
    "ip daddr != @addresses",
    "ip daddr & 255.0.0.255 == 127.0.0.1",
    "ip daddr & 0.0.0.255 > 0.0.0.3",
    "ip protocol tcp",
    "ip protocol != tcp",
    "ip protocol { tcp, udp }",
    "ip version 4",
    "ip length 20-45",
    "ip length > 45",
    "ip6 saddr ::1",
    "ip6 saddr != ::1",
    "ip6 daddr ::/64",
    "ip6 daddr != ::/64",
    "ip6 daddr { ::1, fd00::/8 }",
    "ip6 nexthdr udp",
    "ip6 nexthdr != udp",
    "tcp dport 7000",
    "tcp dport != 7000",
    "tcp dport 6000-7000",
    "tcp dport != 6000-7000",
    "tcp dport > 7000",
    "tcp dport { 22, 7000-7001 }",
    "tcp dport != { 22, 7000-7001 }",
    "tcp sport 9000",
    "tcp flags syn",
    "tcp flags != syn",
    "tcp flags & (syn|ack) == syn",
    "tcp flags & (syn|ack) != syn",
    "tcp flags & (fin|rst) == 0",
    "tcp flags { syn, ack }",
    "udp dport 7000",
    "udp dport != 7000",
    "udp dport @ports",
    "udp dport != @ports",
    "udp sport 9000-9001",
    "th dport 7000",
    "th dport != 7000",
    "th sport 9000",
    "icmp type echo-request",
    "icmp type != echo-request",
    "icmpv6 type echo-request",
    "meta l4proto tcp",
    "meta l4proto != tcp",
    "meta l4proto { tcp, udp }",
    "meta l4proto 17",
    "meta nfproto ipv4",
    "meta nfproto ipv6",
    "meta protocol ip",
    "meta protocol != ip",
    "meta length > 10",
    "meta mark 0x4001",
    "meta mark != 0x4001",
    "meta mark & 0x4000 == 0x4000",
    "meta mark & 0x4000 != 0",
    "meta mark & 0xff == 2",
    "meta mark 0x4000-0x5000",
    "meta mark { 1, 0x4001 }",
    "oifname lo",
    "oifname != lo",
    "oifname l*",
    "oifname != l*",
    "oifname { eth0, lo }",
    "oifname @names",
    "oif lo",
    "oif != lo",
    "iifname lo",
    "iifname != lo",
    "ct state new",
    "ct state != new",
    "ct state established,new",
    "ct state established,related",
    "ct state { new, untracked }",
    "ct state invalid",
    "ct direction original",
    "ct direction reply",
    "ct original protocol tcp",
    "ct original ip daddr 127.0.0.1",
    "ct original ip6 daddr ::1",
    "ip daddr . tcp dport { 127.0.0.1 . 7000, 10.0.0.1 . 80 }",
    "ip daddr . meta l4proto . th dport @services",
    "ip daddr . meta l4proto . th dport != @services",
    "ip saddr . udp dport { 127.0.0.0/8 . 7000-7010 }",
    "iifname . oifname { \"lo\" . \"lo\" }",
    "meta mark set 1; meta mark 1",
    "meta mark set meta mark | 0x10; meta mark & 0x10 == 0x10",
    "meta mark set meta mark & 0xf; meta mark 1",
    "meta mark set meta mark ^ 0x4000; meta mark 1",
    "meta mark set meta mark ^ 0x4000 tcp dport 1; meta mark 1",
    "udp dport 7000 meta mark set 7; meta mark 7",
    "notrack; ct state untracked",
    "notrack; ct state new",
    "udp dport vmap { 22 : accept, 7000 : goto hit }",
    "tcp dport vmap { 22 : accept, 6999-7000 : jump hit }",
    "th dport vmap { 22 : accept, * : jump hit }",
    "ip daddr . meta l4proto . th dport vmap @verdicts",
    "oifname vmap { eth0 : accept, lo : jump hit }",
    "ct state vmap { new : jump hit, established : accept }",
    "meta mark & 0xff vmap { 1 : jump hit, 2 : drop }",
    "jump back; th dport 7000",
    "goto back; th dport 7000",
    "udp dport 7000 goto back; th dport 7000",
    "numgen random mod 1 vmap { 0 : jump hit }",
    "numgen random mod 7 <= 6",
    "jhash ip saddr mod 1 vmap { 0 : jump hit }",
    "meta l4proto udp return; th dport 7000",
];

/// All cases as one table.
fn table() -> String {
    let mut text = String::from(
        "table inet judge {
 set addresses { type ipv4_addr; flags interval; elements = { 127.0.0.0/24, 10.0.0.1 }
 }
 set ports { type inet_service; flags interval; elements = { 22, 6000-7500 }
 }
 set names { type ifname; elements = { \"lo\", \"eth0\" }
 }
 set services { type ipv4_addr . inet_proto . inet_service; elements = { 127.0.0.1 . udp . 7000 }
 }
",
    );
    let mut chains = String::new();
    for (number, case) in CASES.iter().enumerate() {
        let hit = format!("hit{number}");
        let case = case
            .replace("hit", &hit)
            .replace("back", &format!("back{number}"));
        let case = case.replace("@verdicts", &format!("@verdicts{number}"));
        let _ = writeln!(text, " chain hit{number} {{\n  counter accept\n }}");
        let _ = writeln!(
            text,
            " chain back{number} {{\n  meta l4proto 255 accept\n }}"
        );
        let _ = writeln!(
            text,
            " map verdicts{number} {{ type ipv4_addr . inet_proto . inet_service : verdict; flags interval; \
             elements = {{ 127.0.0.1 . tcp . 7000 : goto {hit}, 127.0.0.0/8 . udp . 6000-8000 : jump {hit} }}\n }}"
        );
        let _ = writeln!(
            chains,
            " chain case{number} {{\n  type filter hook output priority {}; policy accept;",
            i32::try_from(number).unwrap() - 260
        );
        let rules: Vec<&str> = case.split("; ").collect();
        for (place, rule) in rules.iter().enumerate() {
            let decides = rule.contains("vmap") || rule.contains("goto") || rule.contains("return");
            let end = if place + 1 == rules.len() && !decides {
                "counter accept"
            } else {
                ""
            };
            let _ = writeln!(chains, "  {rule} {end}");
        }
        chains += " }\n";
    }
    text + &chains + " chain last {\n  type filter hook output priority 1000; policy drop;\n }\n}\n"
}

/// The one address that packets are sent between is local.
struct Here;

impl Surroundings for Here {
    fn address_kind(&self, _: IpAddr) -> Option<AddressKind> {
        Some(AddressKind::Local)
    }
}

const MARK: u32 = 0x4001;

/// Sends one packet; what rules saw of it.
fn send(protocol: u8, address: &str) -> Subject {
    let ip: IpAddr = address.parse().unwrap();
    let (source, destination) = (SocketAddr::new(ip, 9000), SocketAddr::new(ip, 7000));
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let tcp = protocol == 6;
    let (kind, number) = if tcp {
        (SocketType::STREAM, ipproto::TCP)
    } else {
        (SocketType::DGRAM, ipproto::UDP)
    };
    let socket =
        rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK, Some(number)).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    set_mark(&socket);
    rustix::net::bind(&socket, &source).unwrap();
    // It does not get far.
    let _ = rustix::net::connect(&socket, &destination);
    let header = if ip.is_ipv4() { 20 } else { 40 };
    let mut subject = Subject::new(Hook::Output, ip, ip, protocol);
    if !tcp {
        let _ = rustix::net::send(&socket, b"1234567", rustix::net::SendFlags::empty());
        subject.length = Some(header + 8 + 7);
    }
    subject.source_port = Some(source.port());
    subject.destination_port = Some(destination.port());
    subject.tcp_flags = tcp.then_some(2);
    subject.fragment = Some(false);
    subject.output = DeviceName::Is("lo".to_owned());
    subject.mark = Bits::exactly(MARK);
    let connection = &mut subject.connection;
    connection.states = States::NEW;
    connection.original = Some(true);
    connection.original_source = Some((ip, source.port()));
    connection.original_destination = Some((ip, destination.port()));
    subject
}

fn set_mark(socket: &impl std::os::fd::AsRawFd) {
    let mark = MARK;
    // SAFETY: the option's value is an int of the given length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw const mark).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "SO_MARK");
}

/// The handles of the rules that counted.
fn counted(rules: &RuleSet) -> BTreeSet<u64> {
    let objects = rules.listing().objects.iter();
    let rules = objects.filter_map(|object| match object {
        super::super::model::Object::Rule(rule) => Some(rule),
        _ => None,
    });
    let counted = rules.filter(|rule| {
        rule.statements.iter().any(|statement| match statement {
            Statement::Passing { name, body } if &**name == "counter" => {
                body.get("packets")
                    .and_then(super::super::json::Json::as_number)
                    != Some(0)
            }
            _ => false,
        })
    });
    counted.map(|rule| rule.handle).collect()
}

/// The handles of the rules that are said to decide, and of those that may.
fn said(rules: &RuleSet, subject: &Subject) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut certain, mut possible) = (BTreeSet::new(), BTreeSet::new());
    let mut state = subject.clone();
    for chain in rules.base_chains(subject.family(), Hook::Output) {
        let answer = rules.walk(&chain, &state, &Here, Observed::Nothing);
        state = answer.passed.unwrap_or(state);
        for (_, path) in &answer.explanation.paths {
            let sure = path.certainty == Certainty::Certain;
            let rule = path.steps.iter().rev().find_map(|step| match step.place {
                Place::Rule { handle, .. } => handle,
                _ => None,
            });
            if let Place::Policy = path.steps.last().unwrap().place {
                continue;
            }
            possible.extend(rule);
            certain.extend(rule.filter(|_| sure));
        }
    }
    (certain, possible)
}

/// The rules with what they counted, which live reading leaves out.
fn with_counts() -> RuleSet {
    let listed = std::process::Command::new("nft")
        .args(["-j", "list", "ruleset"])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    read::read(&String::from_utf8(listed.stdout).unwrap())
        .unwrap()
        .into()
}

#[test]
fn the_kernel_agrees() {
    if !root() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), table()).unwrap();
    let load = format!("nft -f {}", file.path().display());
    let mut undecided = BTreeSet::new();
    for (protocol, address) in [(17, "127.0.0.1"), (6, "127.0.0.1"), (17, "::1"), (6, "::1")] {
        in_new_netns(|| {
            if !run("nft add table inet test") || !run("nft delete table inet test") {
                return println!("skipped: nft does not work here");
            }
            assert!(run("ip link set lo up"));
            assert!(run(&load), "not all cases could be loaded");
            let before = live::read().unwrap();
            assert!(counted(&with_counts()).is_empty());
            let subject = send(protocol, address);
            let after = with_counts();
            let counted = counted(&after);
            assert!(!counted.is_empty(), "no packet was sent");
            let (certain, possible) = said(&before, &subject);
            for handle in certain.symmetric_difference(&counted) {
                let wrong = !counted.contains(handle) || !possible.contains(handle);
                assert!(
                    !wrong,
                    "{protocol} {address}: {}",
                    described(&after, *handle)
                );
            }
            undecided.extend(possible.difference(&certain).map(|h| described(&after, *h)));
        });
    }
    // How long a SYN is depends on the kernel's options.
    undecided.retain(|rule: &String| !rule.contains("length"));
    assert_eq!(undecided, BTreeSet::new());
}

fn described(rules: &RuleSet, handle: u64) -> String {
    let objects = rules.listing().objects.iter();
    let rule = objects.filter_map(|object| match object {
        super::super::model::Object::Rule(rule) => Some(rule),
        _ => None,
    });
    let rule = rule.into_iter().find(|rule| rule.handle == handle).unwrap();
    format!("{}: {rule}", rule.chain)
}
