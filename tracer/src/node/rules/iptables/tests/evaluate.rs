//! Which rules did something, and which may have.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::{RuleSet, Tables},
    fixtures,
};
use crate::node::rules::{
    evaluate::explain,
    outcome::{Explanation, NatRange, Observed, Outcome},
    path::{Certainty, Place, Source},
    subject::{
        AddressKind, Bits, DeviceName, Elsewhere, Family, Hook, States, Subject, Surroundings,
        status,
    },
};

/// A namespace with these addresses of its own.
pub(super) struct Here(HashSet<IpAddr>);

impl Surroundings for Here {
    fn address_kind(&self, address: IpAddr) -> Option<AddressKind> {
        Some(if self.0.contains(&address) {
            AddressKind::Local
        } else {
            AddressKind::Unicast
        })
    }
}

pub(super) fn node() -> Here {
    let own = ["192.168.77.11", "10.244.1.1", "127.0.0.1"];
    Here(own.map(|ip| ip.parse().unwrap()).into())
}

pub(super) fn rules(fixture: &str) -> RuleSet {
    let family = if fixture.contains("ip6") {
        Family::V6
    } else {
        Family::V4
    };
    RuleSet::new(family, Source::IptablesNft, fixtures::tables(fixture))
}

pub(super) fn of(text: &str) -> RuleSet {
    let tables = Tables::parse(text).unwrap();
    RuleSet::new(Family::V4, Source::IptablesLegacy, tables)
}

pub(super) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The first packet of a connection.
pub(super) fn packet(hook: Hook, protocol: u8, from: &str, to: &str) -> Subject {
    let (from, to) = (socket(from), socket(to));
    let mut subject = Subject::new(hook, from.ip(), to.ip(), protocol);
    subject.source_port = Some(from.port());
    subject.destination_port = Some(to.port());
    subject.mark = Bits::exactly(0);
    subject.connection.states = States::NEW;
    subject.connection.status = Bits::exactly(0);
    subject.fragment = Some(false);
    subject
}

pub(super) fn why(rules: &RuleSet, subject: &Subject, observed: Observed) -> Explanation {
    explain(&[rules], subject, &node(), observed)
}

/// The one path, as `CHAIN rule, CHAIN rule`, with what it did and the Service.
pub(super) fn only(explanation: &Explanation) -> (String, Outcome, String) {
    let [(outcome, path)] = &explanation.paths[..] else {
        panic!("{explanation:#?}");
    };
    assert_eq!(path.certainty, Certainty::Certain, "{explanation:#?}");
    let service = path.service.as_ref().map_or(String::new(), |choice| {
        let (k, n) = choice.endpoint.unwrap_or_default();
        format!("{} {k} of {n}", choice.service)
    });
    (steps(path), outcome.clone(), service)
}

pub(super) fn steps(path: &crate::node::rules::path::RulePath) -> String {
    let steps = path.steps.iter().map(|step| match step.place {
        Place::Rule { number, .. } => format!("{} {number}", step.chain),
        _ => format!("{} policy", step.chain),
    });
    steps.collect::<Vec<_>>().join(", ")
}

pub(super) fn to(text: &str) -> Outcome {
    let address = socket(text);
    Outcome::Dnat(NatRange::to(address.ip(), Some(address.port())))
}

#[test]
fn a_service_without_endpoints_is_rejected_by_its_rule() {
    for hook in [Hook::Forward, Hook::Output] {
        let syn = packet(hook, 6, "10.244.1.2:4000", "10.96.0.82:80");
        let explanation = why(&rules("1.36-iptables-nft"), &syn, Observed::Dropped);
        let (path, outcome, service) = only(&explanation);
        assert!(path.ends_with("KUBE-SERVICES 1"), "{path}");
        assert_eq!(
            outcome,
            Outcome::Rejected("icmp-port-unreachable".to_owned())
        );
        assert_eq!(service, "default/ghost:http 0 of 0");
        let last = explanation.paths[0].1.last().unwrap();
        assert_eq!(
            last.comment.as_deref(),
            Some("default/ghost:http has no endpoints")
        );
        assert_eq!(last.table, "filter");
        assert!(
            last.text
                .starts_with("-A KUBE-SERVICES -d 10.96.0.82/32 -p tcp ")
        );
    }
}

#[test]
fn a_node_port_without_local_endpoint_is_dropped_by_its_rule() {
    let syn = packet(Hook::Input, 6, "192.168.77.1:4000", "192.168.77.11:30084");
    let explanation = why(&rules("1.36-iptables-nft"), &syn, Observed::Dropped);
    let (path, outcome, service) = only(&explanation);
    assert_eq!(path, "INPUT 4, KUBE-EXTERNAL-SERVICES 1");
    assert_eq!(outcome, Outcome::Dropped);
    assert_eq!(service, "default/local-only:http 0 of 0");
    let unknown = explain(
        &[&rules("1.36-iptables-nft")],
        &syn,
        &Elsewhere,
        Observed::Dropped,
    );
    assert_eq!(
        unknown.paths[0].1.certainty,
        Certainty::Candidate(vec![crate::node::rules::decision::Undecided::because(
            "what kind the address is here is not known"
        )])
    );
}

#[test]
fn a_policy_drops_what_no_rule_accepts() {
    let rules = of("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -d 10.0.0.0/8 -j ACCEPT\nCOMMIT\n");
    let syn = packet(Hook::Forward, 6, "10.244.1.2:4000", "11.0.0.1:80");
    let explanation = why(&rules, &syn, Observed::Dropped);
    assert_eq!(only(&explanation).0, "FORWARD policy");
    assert_eq!(explanation.paths[0].1.steps[0].text, "-P FORWARD DROP");
    let accepted = packet(Hook::Forward, 6, "10.244.1.2:4000", "10.0.0.1:80");
    assert_eq!(why(&rules, &accepted, Observed::Dropped).paths, []);
}

#[test]
fn what_cannot_be_decided_makes_candidates() {
    let rules = of("*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n\
        -A FORWARD -m limit --limit 1/sec -j DROP\n\
        -A FORWARD -m fancy --what -j X\n\
        -A FORWARD -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset\n\
        -A X -i eth0 -j DROP\nCOMMIT\n");
    let mut syn = packet(Hook::Forward, 6, "10.244.1.2:4000", "11.0.0.1:80");
    let explanation = why(&rules, &syn, Observed::Dropped);
    let found: Vec<_> = explanation
        .paths
        .iter()
        .map(|(_, path)| match &path.certainty {
            Certainty::Candidate(undecided) => {
                let undecided: Vec<_> = undecided.iter().map(ToString::to_string).collect();
                format!("{}: {}", steps(path), undecided.join("; "))
            }
            Certainty::Certain => panic!("{path:?}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            "FORWARD 1: limit depends on the packets before",
            "FORWARD 2, X 1: what -m fancy asks cannot be decided here; the incoming device is not known",
            "FORWARD 3: ",
        ]
    );
    // What is known of the packet takes candidates away.
    syn.input = DeviceName::Is("eth1".to_owned());
    assert_eq!(why(&rules, &syn, Observed::Dropped).paths.len(), 2);
    syn.destination_port = Some(81);
    let one = why(&rules, &syn, Observed::Dropped);
    assert_eq!(one.paths.len(), 1);
    // A drop may have other causes than rules, so elimination is no proof.
    assert!(matches!(one.paths[0].1.certainty, Certainty::Candidate(_)));
}

#[test]
fn tables_are_asked_in_the_kernels_order_with_what_was_changed_before() {
    let rules = of("*filter\n:OUTPUT ACCEPT [0:0]\n\
        -A OUTPUT -m mark --mark 0x7 -j DROP\n\
        -A OUTPUT -d 10.0.0.9/32 -m conntrack --ctstate DNAT -j REJECT\nCOMMIT\n\
        *nat\n:OUTPUT ACCEPT [0:0]\n\
        -A OUTPUT -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.0.0.9:80\n\
        -A OUTPUT -p tcp -m tcp --dport 82 -j ACCEPT\nCOMMIT\n\
        *mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x7/0xffffffff\nCOMMIT\n");
    let dropped = |to: &str| {
        let syn = packet(Hook::Output, 6, "10.0.0.1:4000", to);
        let explanation = why(&rules, &syn, Observed::Dropped);
        let paths = explanation.paths.iter();
        paths.map(|(_, path)| steps(path)).collect::<Vec<_>>()
    };
    assert_eq!(dropped("10.0.0.2:80"), ["OUTPUT 1"]);
    assert_eq!(dropped("10.0.0.2:81"), ["OUTPUT 2"]);
    assert!(dropped("10.0.0.2:82").is_empty());
    assert!(dropped("10.0.0.9:83").is_empty());
}

#[test]
fn a_goto_does_not_come_back_to_its_chain() {
    let text = |how: &str| {
        format!(
            "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n\
            -A INPUT -j A\n-A INPUT -s 10.0.0.1/32 -j DROP\n\
            -A A -{how} B\n-A A -j ACCEPT\n-A B -d 10.0.0.3/32 -j RETURN\nCOMMIT\n"
        )
    };
    let syn = packet(Hook::Input, 6, "10.0.0.1:1", "10.0.0.2:2");
    let (to, back) = (of(&text("g")), of(&text("j")));
    assert_eq!(only(&why(&to, &syn, Observed::Dropped)).0, "INPUT 2");
    assert_eq!(why(&back, &syn, Observed::Dropped).paths, []);
}

#[test]
fn untracked_packets_and_marks_of_connections_are_followed() {
    let rules = of(
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n\
        *mangle\n:PREROUTING ACCEPT [0:0]\n\
        -A PREROUTING -m conntrack --ctstate UNTRACKED -j DROP\n\
        -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff\n\
        -A PREROUTING -m mark --mark 0x5/0xff -j DROP\nCOMMIT\n",
    );
    let udp = packet(Hook::Prerouting, 17, "10.0.0.1:1", "10.0.0.2:2");
    assert_eq!(
        only(&why(&rules, &udp, Observed::Dropped)).0,
        "PREROUTING 1"
    );
    let mut tcp = packet(Hook::Prerouting, 6, "10.0.0.1:1", "10.0.0.2:2");
    tcp.connection.mark = Bits::partly(0x105, 0xff);
    assert_eq!(
        only(&why(&rules, &tcp, Observed::Dropped)).0,
        "PREROUTING 3"
    );
    tcp.connection.mark = Bits::exactly(0x104);
    assert_eq!(why(&rules, &tcp, Observed::Dropped).paths, []);
}

#[test]
fn statuses_and_states_are_told_apart() {
    let rules = of("*filter\n:INPUT ACCEPT [0:0]\n\
        -A INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
        -A INPUT -m conntrack --ctstatus ASSURED -j DROP\nCOMMIT\n");
    let mut syn = packet(Hook::Input, 6, "10.0.0.1:1", "127.0.0.1:2");
    assert_eq!(only(&why(&rules, &syn, Observed::Dropped)).0, "INPUT 1");
    syn.connection.status = Bits::exactly(status::DST_NAT);
    assert_eq!(why(&rules, &syn, Observed::Dropped).paths, []);
    syn.connection.status = Bits::exactly(status::DST_NAT | status::ASSURED);
    assert_eq!(only(&why(&rules, &syn, Observed::Dropped)).0, "INPUT 2");
    syn.connection.states = States::ANY;
    syn.connection.status = Bits::UNKNOWN;
    assert_eq!(why(&rules, &syn, Observed::Dropped).paths.len(), 2);
}

#[test]
fn a_rule_set_that_is_saved_explains_the_same() {
    let rules = rules("1.36-iptables-nft");
    let text = serde_json::to_string(&rules).unwrap();
    let read: RuleSet = serde_json::from_str(&text).unwrap();
    assert_eq!(read, rules);
    let syn = packet(Hook::Prerouting, 6, "10.244.1.2:4000", "10.96.0.80:80");
    let seen = Observed::Destination(socket("10.244.1.3:8080"));
    assert_eq!(why(&read, &syn, seen), why(&rules, &syn, seen));
    assert!(serde_json::from_str::<RuleSet>(&text.replace("COMMIT", "COMIT")).is_err());
}

#[test]
fn endless_rules_are_given_up() {
    // iptables refuses loops; a file might have one.
    let mut text = "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n-A INPUT -j A\n".to_owned();
    text += &"-A A -s 10.0.0.1/32 -j A\n".repeat(50);
    text += "COMMIT\n";
    let syn = packet(Hook::Input, 6, "10.0.0.1:1", "10.0.0.2:2");
    let explanation = why(&of(&text), &syn, Observed::Dropped);
    assert!(explanation.given_up && explanation.paths.is_empty());
}
