//! Each rule of the diagnosis, on flows built by hand; and that what is well has none.

use super::{Diagnosis, Layer};
use crate::journey::model::{Stage, Verdict};
use crate::report::scenarios::{
    self, Scenario,
    faults::{self, SECOND},
};

fn diagnosis(scenario: Scenario) -> Option<Diagnosis> {
    scenario.flow.diagnosis
}

fn told(scenario: Scenario) -> (Layer, &'static str, String) {
    let diagnosis = diagnosis(scenario).expect("a diagnosis");
    assert!(!diagnosis.evidence.is_empty() || diagnosis.layer == Layer::Tracing);
    (diagnosis.layer, diagnosis.cause, diagnosis.sentence())
}

#[track_caller]
fn says(scenario: Scenario, layer: Layer, cause: &str, sentence: &str) {
    let told = told(scenario);
    assert_eq!((told.0, told.1), (layer, cause), "{}", told.2);
    assert_eq!(told.2, sentence);
}

#[test]
fn a_service_without_endpoints() {
    says(
        faults::no_endpoints(),
        Layer::Service,
        "no-endpoints",
        "Service: default/ghost:http has no endpoints (1 SYN refused by filter KUBE-SERVICES rule 1 in \
         node1); see `kubectl get endpointslices -n default -l kubernetes.io/service-name=ghost`",
    );
}

#[test]
fn a_rule_that_drops() {
    says(
        faults::dropped_by_rule(3),
        Layer::Filter,
        "dropped-by-rule",
        "filter: filter FORWARD rule 1 `-A FORWARD -d 10.244.1.3/32 -p tcp -m comment --comment \
         quarantine -m tcp --dport 8080 -j DROP` in node1 drops the client's packets (3 SYNs dropped \
         at forward of cni0 in node1, NETFILTER_DROP in nf_hook_slow+0xa6); see `iptables-nft -t filter \
         -vS FORWARD`",
    );
}

#[test]
fn reasons_of_the_kernels_own() {
    for (reason, layer, cause) in [
        (20, Layer::Routing, "no-route"),
        (21, Layer::Routing, "rp-filter"),
        (22, Layer::Routing, "not-forwarded"),
        (23, Layer::Mtu, "packet-too-big"),
        (24, Layer::PodNetwork, "no-neighbour"),
        (25, Layer::Routing, "martian"),
        (27, Layer::Server, "overloaded"),
        (28, Layer::Filter, "dropped-by-program"),
        (29, Layer::PodNetwork, "device-drops"),
        (77, Layer::PodNetwork, "dropped"),
    ] {
        let (found, named, sentence) = told(faults::dropped_for(reason));
        assert_eq!((found, named), (layer, cause), "{sentence}");
        assert!(
            sentence.contains("1 SYN dropped at bridge of cni0 in node1"),
            "{sentence}"
        );
    }
}

#[test]
fn a_missing_route() {
    says(
        faults::dropped_for(20),
        Layer::Routing,
        "no-route",
        "routing: no route in node1 to 10.244.2.3 (1 SYN dropped at bridge of cni0 in node1, \
         IP_INNOROUTES in tcp_v4_rcv+0x321); see `ip route get 10.244.2.3`",
    );
}

#[test]
fn a_port_that_nobody_listens_on() {
    says(
        faults::nothing_listens(3),
        Layer::Server,
        "nothing-listens",
        "server: nothing listens on TCP 10.244.1.3:9 in app/b1 (1 SYN dropped at device.receive of eth0 \
         in app/b1, NO_SOCKET in tcp_v4_rcv+0x321; RST from 10.244.1.3:9 in app/b1); see `ss -ltnp`",
    );
    let (layer, cause, sentence) = told(faults::nothing_listens(0));
    assert_eq!((layer, cause), (Layer::Server, "nothing-listens"));
    assert!(sentence.contains("tcp_v4_rcv"), "{sentence}");
    let (layer, cause, _) = told(scenarios::refused());
    assert_eq!((layer, cause), (Layer::Loopback, "nothing-listens"));
}

#[test]
fn a_server_that_listens_elsewhere() {
    says(
        faults::listens_on(&["127.0.0.1:9"], Some("kube-scheduler")),
        Layer::Server,
        "listens-elsewhere",
        "server: TCP 10.244.1.3:9 is called in app/b1, but kube-scheduler (pid 812) listens at 127.0.0.1:9 \
         only: have it listen there by its --bind-address (1 SYN dropped at device.receive of eth0 in \
         app/b1, NO_SOCKET in tcp_v4_rcv+0x321; RST from 10.244.1.3:9 in app/b1); see `ss -ltnp`",
    );
    let (_, cause, sentence) = told(faults::listens_on(&["[::1]:9", "127.0.0.1:9"], None));
    assert_eq!(cause, "listens-elsewhere");
    let said = "its port is listened on at 127.0.0.1:9 and [::1]:9 only: have it listen on 10.244.1.3 or \
                0.0.0.0 (";
    assert!(sentence.contains(said), "{sentence}");
    // Who takes it by now has begun since.
    for address in ["0.0.0.0:9", "10.244.1.3:9", "[::]:9"] {
        let (_, cause, _) = told(faults::listens_on(&["127.0.0.1:9", address], None));
        assert_eq!(cause, "nothing-listens", "{address}");
    }
    let (_, cause, _) = told(faults::listens_on(&[], None));
    assert_eq!(cause, "nothing-listens");
}

#[test]
fn a_refusal_from_where_nothing_is_seen() {
    says(
        faults::refused_elsewhere(),
        Layer::Server,
        "reset",
        "server: 203.0.113.9:443 refuses connections: it, or something before it, answers with RST (RST \
         from 203.0.113.9:443)",
    );
    for (code, layer, cause) in [
        (1, Layer::Routing, "unreachable"),
        (3, Layer::Server, "port-unreachable"),
        (13, Layer::Filter, "prohibited"),
    ] {
        let (found, named, sentence) = told(faults::unreachable(code));
        assert_eq!((found, named), (layer, cause), "{sentence}");
        assert!(sentence.contains("198.51.100.1 says"), "{sentence}");
    }
}

/// Of A and of AAAA.
const KINDS: [u16; 2] = [1, 28];

/// Names that are not there, both kinds of addresses of each, one after the other.
fn nowhere(names: &[&str]) -> Vec<faults::Question> {
    let questions = names.iter().enumerate().flat_map(|(at, name)| {
        KINDS.map(|kind| {
            let (id, time) = (at as u16 * 100 + kind, at as u64 * 1_000_000);
            let answer = faults::says(id, name, kind, 3, false);
            (time, 1, Some(time + 20_000), Some((time + 200_000, answer)))
        })
    });
    questions.collect()
}

#[test]
fn a_search_path_that_leads_nowhere() {
    let path = [
        "api.default.svc.cluster.local",
        "api.svc.cluster.local",
        "api",
    ];
    says(
        faults::looked_up(&nowhere(&path), &[]),
        Layer::Dns,
        "name-not-found",
        "DNS: none of the 3 names of the search path has an address, from api.default.svc.cluster.local to \
         api (NXDOMAIN from 10.96.0.10:53 (kube-system/kube-dns:dns); asked for api.default.svc.cluster.local, \
         api.svc.cluster.local, api); see `dig @10.96.0.10 api AAAA`",
    );
    let (_, cause, sentence) = told(faults::looked_up(&nowhere(&["nosuch.example"]), &[]));
    assert_eq!(cause, "name-not-found");
    assert!(
        sentence.contains("there is no name nosuch.example ("),
        "{sentence}"
    );
}

#[test]
fn a_search_that_goes_on_is_not_wrong() {
    let all = nowhere(&["api.default.svc.cluster.local", "api.svc.cluster.local"]);
    let (tried, later) = all.split_at(2);
    assert_eq!(
        diagnosis(faults::looked_up(tried, later)),
        None,
        "told of the last"
    );
    let found = faults::says(9, "api.svc.cluster.local", 1, 0, true);
    let found = [(3_000_000, 1, None, Some((3_200_000, found)))];
    assert_eq!(diagnosis(faults::looked_up(tried, &found)), None);
    // One kind of address is enough, and one alone that is missing says nothing.
    let of = |kind, found| faults::says(kind, "web.a", kind, 0, found);
    let asked = |answer| (0, 1, None, Some((200_000, answer)));
    for both in [
        vec![asked(of(1, true)), asked(of(28, false))],
        vec![asked(of(28, false))],
    ] {
        assert_eq!(diagnosis(faults::looked_up(&both, &[])), None);
    }
    let neither = [asked(of(1, false)), asked(of(28, false))];
    let (_, cause, _) = told(faults::looked_up(&neither, &[]));
    assert_eq!(cause, "name-without-address");
}

#[test]
fn a_name_server_that_fails_or_is_slow() {
    let asked = |code, later: &[faults::Question]| {
        let answer = faults::says(1, "web.a", 1, code, false);
        faults::looked_up(&[(0, 1, None, Some((200_000, answer)))], later)
    };
    let (layer, cause, sentence) = told(asked(2, &[]));
    assert_eq!((layer, cause), (Layer::Dns, "name-server-failed"));
    assert!(
        sentence.contains("answers SERVFAIL about web.a"),
        "{sentence}"
    );
    let good = faults::says(2, "web.a", 1, 0, true);
    let again = [(SECOND, 1, None, Some((SECOND + 200_000, good.clone())))];
    assert_eq!(diagnosis(asked(2, &again)), None, "another knew it");
    // The server took its time, or the question did.
    let late = |sent, taken| {
        let answer = Some((3 * SECOND, good.clone()));
        faults::looked_up(&[(0, sent, Some(taken), answer)], &[])
    };
    let (layer, cause, sentence) = told(late(1, 20_000));
    assert_eq!((layer, cause), (Layer::Dns, "slow-answer"));
    let said = "the name server 10.244.1.3:5353 (app/b1) took 3.00 s to answer about web.a";
    assert!(sentence.contains(said), "{sentence}");
    let (_, cause, sentence) = told(late(2, 3 * SECOND - 30_000));
    assert_eq!(cause, "slow-answer");
    assert!(
        sentence.contains("answered about web.a only after 3.00 s"),
        "{sentence}"
    );
    let fast = faults::looked_up(&[(0, 1, None, Some((SECOND / 2, good.clone())))], &[]);
    assert_eq!(diagnosis(fast), None);
}

#[test]
fn a_question_of_two_without_an_answer() {
    let good = faults::says(1, "web.a", 1, 0, true);
    let answered = (0, 1, None, Some((200_000, good)));
    let (layer, cause, sentence) = told(faults::looked_up(
        &[answered.clone(), (50, 2, None, None)],
        &[],
    ));
    assert_eq!((layer, cause), (Layer::Dns, "question-unanswered"));
    assert!(
        sentence.contains("does not arrive, or its answer"),
        "{sentence}"
    );
    assert!(
        sentence.contains("2 datagrams, no answer in 10.00 s"),
        "{sentence}"
    );
    // One that may yet be answered.
    let young = (10 * SECOND - 1000, 1, None, None);
    assert_eq!(diagnosis(faults::looked_up(&[answered, young], &[])), None);
}

#[test]
fn nobody_answers() {
    says(
        faults::left(2 * SECOND),
        Layer::Network,
        "no-answer-from-network",
        "network: what is sent to 203.0.113.9:443 leaves this node, and nothing comes back (1 SYN, no \
         answer in 2.00 s; seen last at device.transmit of eth0 in node1); see `ip route get 203.0.113.9`",
    );
    let (layer, cause, _) = told(faults::silent_server("10.244.1.3:8080", 6));
    assert_eq!((layer, cause), (Layer::Server, "server-silent"));
    let (layer, cause, _) = told(faults::silent_server("10.244.1.3:53", 17));
    assert_eq!((layer, cause), (Layer::Dns, "server-silent"));
}

#[test]
fn a_default_route_that_takes_what_is_for_pods() {
    says(
        faults::by_default_route(false),
        Layer::Routing,
        "default-route-only",
        "routing: no route on node1 leads to the pod 10.244.2.3 but the default route, by eth0 via \
         192.168.77.1, and nothing comes back from there (seen last at device.transmit of eth0 in node1); \
         see `ip route`",
    );
    let (layer, cause, _) = told(faults::by_default_route(true));
    assert_eq!((layer, cause), (Layer::Network, "no-answer-from-network"));
}

#[test]
fn conntrack_that_drops() {
    for stage in [Stage::Prerouting, Stage::Output] {
        let (layer, cause, sentence) = told(faults::dropped_without_a_rule(stage, Some(1000)));
        assert_eq!((layer, cause), (Layer::Conntrack, "conntrack-full"));
        assert!(
            sentence.contains("1000 connections of at most 1000"),
            "{sentence}"
        );
        let (_, _, sentence) = told(faults::dropped_without_a_rule(stage, Some(950)));
        assert!(sentence.contains("is nearly full"), "{sentence}");
        let (layer, cause, _) = told(faults::dropped_without_a_rule(stage, None));
        assert_eq!((layer, cause), (Layer::Filter, "dropped-by-hook"));
    }
    for stage in [Stage::Postrouting, Stage::Input] {
        let (layer, cause, _) = told(faults::dropped_without_a_rule(stage, None));
        assert_eq!((layer, cause), (Layer::Conntrack, "conntrack-clash"));
    }
}

#[test]
fn a_connection_that_large_packets_hang() {
    let (layer, cause, sentence) = told(faults::swallowed(1448, 4, false));
    assert_eq!((layer, cause), (Layer::Mtu, "large-packets-lost"));
    let said = "packets of 1508 bytes from 10.244.1.3:8080 (app/b1) to 10.244.1.2:37600 get lost";
    for said in [
        said,
        "probably",
        "sent 4 times in 1.50 s",
        "only packets without data",
        "no ICMP",
    ] {
        assert!(sentence.contains(said), "{said} not in {sentence}");
    }
    // Small ones may get lost too, and large ones that came through before were not too large.
    for (scenario, layer) in [
        (faults::swallowed(200, 4, false), Layer::Network),
        (faults::swallowed(1448, 4, true), Layer::Network),
    ] {
        let (found, cause, sentence) = told(scenario);
        assert_eq!((found, cause), (layer, "stalled"), "{sentence}");
    }
    assert_eq!(
        diagnosis(faults::swallowed(1448, 2, false)),
        None,
        "by chance"
    );
}

#[test]
fn a_connection_that_gets_lost() {
    for (stage, layer) in [
        (Stage::DeviceTransmit, Layer::PodNetwork),
        (Stage::Forward, Layer::Routing),
    ] {
        let (found, cause, sentence) = told(faults::seen_last_at(stage));
        assert_eq!((found, cause), (layer, "lost-on-the-way"), "{sentence}");
        assert!(
            sentence.contains(&format!("seen last at {stage}")),
            "{sentence}"
        );
    }
}

#[test]
fn an_answer_that_gets_lost() {
    for (verdict, layer, cause) in [
        (Verdict::Unknown, Layer::PodNetwork, "answer-lost"),
        (Verdict::Left, Layer::Network, "answer-left"),
    ] {
        let (found, named, sentence) = told(faults::lost_answer(verdict));
        assert_eq!((found, named), (layer, cause), "{sentence}");
        assert!(sentence.contains("it was seen last at"), "{sentence}");
    }
}

#[test]
fn a_pod_that_calls_itself() {
    let (layer, cause, sentence) = told(faults::hairpin());
    assert_eq!((layer, cause), (Layer::Service, "hairpin-not-masqueraded"));
    assert!(sentence.contains("10.244.1.2 calls itself"), "{sentence}");
    assert!(
        sentence.contains("nothing in node1 masquerades"),
        "{sentence}"
    );
}

#[test]
fn an_answer_that_is_not_translated_back() {
    let (layer, cause, sentence) = told(faults::untranslated());
    assert_eq!((layer, cause), (Layer::Service, "answer-not-translated"));
    assert!(sentence.contains("bridge-nf-call-iptables"), "{sentence}");
}

#[test]
fn a_connection_whose_packets_are_too_large() {
    let (layer, cause, _) = told(faults::too_large(4, SECOND, 23));
    assert_eq!((layer, cause), (Layer::Mtu, "packet-too-big"));
    // The whole window at once, before the path's limit is known.
    assert_eq!(diagnosis(faults::too_large(4, 1_000, 23)), None);
    assert_eq!(diagnosis(faults::too_large(1, 0, 23)), None);
    // What an open connection drops without harm.
    assert_eq!(diagnosis(faults::too_large(4, SECOND, 26)), None);
}

#[test]
fn a_connection_that_opens_late() {
    let (layer, cause, sentence) = told(faults::slow(SECOND));
    assert_eq!((layer, cause), (Layer::Network, "slow-to-open"));
    assert!(
        sentence.contains("answered only after 1.00 s"),
        "{sentence}"
    );
    assert_eq!(diagnosis(faults::slow(SECOND / 2)), None);
}

#[test]
fn what_is_not_over_is_not_wrong() {
    assert_eq!(diagnosis(faults::left(SECOND / 2)), None);
    assert_eq!(diagnosis(faults::silent_server("10.244.1.3:514", 17)), None);
}

#[test]
fn where_events_were_lost_that_is_said() {
    let (layer, cause, sentence) = told(faults::with_losses());
    assert_eq!((layer, cause), (Layer::Tracing, "events-lost"));
    assert!(sentence.contains("events were lost"), "{sentence}");
}

/// What was let go may have been the answer, a drop, a reset.
#[test]
fn where_there_was_no_room_that_is_said() {
    let (layer, cause, sentence) = told(faults::without_room());
    assert_eq!((layer, cause), (Layer::Tracing, "packets-let-go"));
    assert!(sentence.contains("larger --memory"), "{sentence}");
}

#[test]
fn healthy_flows_have_no_diagnosis() {
    let well = [
        "cluster_ip",
        "vxlan",
        "udp",
        "hole",
        "ipv6",
        "echo",
        "masquerade",
    ];
    for (name, scenario) in scenarios::all() {
        let found = diagnosis(scenario);
        assert_eq!(found.is_none(), well.contains(&name), "{name}: {found:?}");
    }
}
