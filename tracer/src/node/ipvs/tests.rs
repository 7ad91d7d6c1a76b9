//! Tables as kernels print them, and as nobody does.

use std::{fmt::Write as _, net::IpAddr};

use proptest::prelude::*;

use super::{parse::table, *};
use crate::node::{
    rules::{
        evaluate::{self, RuleSet as _},
        outcome::{Explanation, Observed, Outcome},
        path::Certainty,
        subject::{Bits, Elsewhere, Family, Hook, Subject},
    },
    services::Services,
    testing::{in_new_netns, root, run},
};

/// Of a 6.12, with what kube-proxy makes and other things that there are.
const TEXT: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600055:0050 rr 
TCP  0A600051:0050 rr persistent 2700000 FFFFFFFF
  -> 0AF40203:1F90      Masq    0      0          0         
  -> 0AF40103:1F90      Masq    1      0          1         
UDP  [fd00:0010:0096:0000:0000:0000:0000:0010]:0035 rr 
  -> [fd00:0010:0244:0001:0000:0000:0000:0003]:14E9      Masq    1      0          0         
UDP  0A60000A:0035 wlc ops 
  -> 0AF40103:14E9      Masq    100    0          0         
ESP  0A60000B:0035 rr 
  -> 0AF40109:14E9      Masq    1      0          0         
TCP  C0A84D0B:0000 rr persistent 75000 FFFFFFFF
  -> 0AF40104:0000      Route   1      0          0         
FWM  00000007 sh 
  -> 0AF40105:0050      Tunnel  3      0          0         
";

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How a packet to `called` came to `given`, as the table has it, and whether that is certain.
fn path(table: &Table, protocol: u8, called: &str, given: &str) -> Option<(String, bool)> {
    let observed = Observed::Destination(socket(given));
    let explanation = explain(table, &subject(protocol, called), observed);
    let [(_, path)] = &explanation.paths[..] else {
        assert_eq!(explanation.paths, []);
        return None;
    };
    let certain = path.certainty == Certainty::Certain;
    Some((path.last().unwrap().to_string(), certain))
}

fn explain(table: &Table, subject: &Subject, observed: Observed) -> Explanation {
    evaluate::explain(&[table], subject, &Elsewhere, observed)
}

/// A client's packet at INPUT.
fn subject(protocol: u8, called: &str) -> Subject {
    let called = socket(called);
    let client: IpAddr = if called.is_ipv4() {
        [10, 244, 1, 2].into()
    } else {
        "fd00:10:244:1::2".parse().unwrap()
    };
    Subject {
        destination_port: Some(called.port()),
        source_port: Some(40_000),
        mark: Bits::exactly(0),
        ..Subject::new(Hook::Input, client, called.ip(), protocol)
    }
}

#[test]
fn the_virtual_server_and_the_real_one_explain_a_translation() {
    let table = table(TEXT);
    let certain = |text: &str| Some((text.to_owned(), true));
    assert_eq!(
        path(&table, 6, "10.96.0.81:80", "10.244.1.3:8080"),
        certain("TCP 10.96.0.81:80 rr persistent -> 10.244.1.3:8080 Masq weight 1")
    );
    assert_eq!(
        path(&table, 17, "[fd00:10:96::10]:53", "[fd00:10:244:1::3]:5353"),
        certain("UDP [fd00:10:96::10]:53 rr -> [fd00:10:244:1::3]:5353 Masq weight 1")
    );
    assert_eq!(
        path(&table, 17, "10.96.0.10:53", "10.244.1.3:5353"),
        certain("UDP 10.96.0.10:53 wlc ops -> 10.244.1.3:5353 Masq weight 100")
    );
    // It gets no new connections, and still has those from before.
    assert_eq!(
        path(&table, 6, "10.96.0.81:80", "10.244.2.3:8080"),
        certain("TCP 10.96.0.81:80 rr persistent -> 10.244.2.3:8080 Masq weight 0")
    );
}

#[test]
fn what_is_gone_or_was_never_there_is_not_made_up() {
    let table = table(TEXT);
    assert_eq!(
        path(&table, 6, "10.96.0.81:80", "10.244.7.7:8080"),
        Some((
            "TCP 10.96.0.81:80 rr persistent -> 10.244.7.7:8080".to_owned(),
            false
        ))
    );
    assert_eq!(path(&table, 6, "10.96.0.10:53", "10.244.1.3:5353"), None);
    assert_eq!(path(&table, 6, "10.96.0.99:80", "10.244.1.3:8080"), None);
    assert_eq!(path(&table, 1, "10.96.0.81:80", "10.244.1.3:8080"), None);
    let of_esp = |real: &RealServer| real.address == socket("10.244.1.9:5353");
    let servers = table.servers();
    assert!(!servers.iter().any(|server| server.real.iter().any(of_esp)));
}

#[test]
fn where_the_packet_is_no_client_of_a_virtual_server_it_goes_on() {
    let table = table(TEXT);
    let subject = subject(6, "10.96.0.99:80");
    let [chain] = table.base_chains(Family::V4, Hook::Input)[..] else {
        panic!()
    };
    let answer = table.walk(&chain, &subject, &Elsewhere, Observed::Nothing);
    assert_eq!(answer.passed, Some(subject));
    assert_eq!(table.base_chains(Family::V4, Hook::Forward), []);
    assert_eq!(Table::default().base_chains(Family::V4, Hook::Input), []);
}

#[test]
fn a_virtual_server_without_real_ones_refuses() {
    let explanation = explain(
        &table(TEXT),
        &subject(6, "10.96.0.85:80"),
        Observed::Dropped,
    );
    let [(outcome, path)] = &explanation.paths[..] else {
        panic!("{explanation:?}")
    };
    assert_eq!(*outcome, Outcome::Rejected("icmp-port-unreachable".into()));
    assert_eq!(path.certainty, Certainty::Certain);
    assert_eq!(
        path.last().unwrap().to_string(),
        "TCP 10.96.0.85:80 rr without a real server to choose"
    );
    // With one, IPVS drops for want of memory only, which no rule tells.
    let served = explain(
        &table(TEXT),
        &subject(17, "10.96.0.10:53"),
        Observed::Dropped,
    );
    assert_eq!(served.paths, []);
}

#[test]
fn port_zero_is_every_port() {
    let table = table(TEXT);
    let explanation = explain(&table, &subject(6, "192.168.77.11:443"), Observed::Passed);
    let [(outcome, path)] = &explanation.paths[..] else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        path.last().unwrap().to_string(),
        "TCP 192.168.77.11:0 rr persistent -> 10.244.1.4:0 Route weight 1"
    );
    assert!(matches!(outcome, Outcome::Stolen(_)));
}

#[test]
fn a_mark_comes_before_an_address_and_is_not_guessed() {
    let table =
        table("FWM  00000007 sh \n  -> 0AF40105:0000      Masq    3      0          0         \n");
    let mut subject = subject(6, "203.0.113.7:80");
    let paths = |subject: &Subject, given: &str| {
        let observed = Observed::Destination(socket(given));
        let paths = explain(&table, subject, observed).paths;
        let texts = paths
            .iter()
            .map(|(_, path)| path.last().unwrap().to_string());
        texts.collect::<Vec<_>>()
    };
    assert!(paths(&subject, "10.244.1.5:80").is_empty());
    subject.mark = Bits::exactly(7);
    assert_eq!(
        paths(&subject, "10.244.1.5:80"),
        ["FWM 7 sh -> 10.244.1.5:0 Masq weight 3"]
    );
    subject.mark = Bits::UNKNOWN;
    let explanation = explain(&table, &subject, Observed::Nothing);
    let certainties: Vec<_> = explanation
        .paths
        .iter()
        .map(|(_, p)| &p.certainty)
        .collect();
    assert!(
        matches!(certainties[..], [Certainty::Candidate(why)] if !why.is_empty()),
        "{explanation:?}"
    );
}

#[test]
fn services_are_what_can_be_called() {
    let own: IpAddr = [192, 168, 77, 11].into();
    let services = table(TEXT).services(|ip| ip == own);
    let services = Services::from(services);
    let web = services
        .called_at(6, socket("10.96.0.81:80"), false)
        .unwrap();
    assert_eq!((web.endpoints.len(), web.refusals.len()), (2, 0));
    let ghost = services
        .called_at(6, socket("10.96.0.85:80"), false)
        .unwrap();
    assert_eq!(ghost.refusals.len(), 1);
    let node = services
        .called_at(6, socket("192.168.77.11:0"), true)
        .unwrap();
    assert_eq!(node.frontends, [Frontend::NodePort(Some(own), 0)]);
    assert_eq!(services.all().len(), 5, "a mark cannot be called");
}

#[test]
fn an_entry_read_twice_is_one_and_the_later_counts() {
    let again = format!("{TEXT}TCP  0A600051:0050 lc \n  -> 0AF40103:1F90 Masq 5 0 0\n");
    assert_eq!(
        path(&table(&again), 6, "10.96.0.81:80", "10.244.1.3:8080"),
        Some((
            "TCP 10.96.0.81:80 lc -> 10.244.1.3:8080 Masq weight 5".to_owned(),
            true
        ))
    );
}

#[test]
fn a_saved_table_answers_the_same() {
    let table = table(TEXT);
    let text = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<Table>(&text).unwrap(), table);
    let mut reversed: Vec<VirtualServer> = table.clone().into();
    reversed.reverse();
    for server in &mut reversed {
        server.real.reverse();
    }
    assert_eq!(Table::from(reversed), table, "saved in another order");
}

#[test]
fn the_kernels_own_table_is_read_and_looking_makes_none() {
    if !root() {
        return;
    }
    in_new_netns(|| {
        assert!(Table::of_this_netns().unwrap().is_empty());
        if !run("ipvsadm -A -t 10.96.0.81:80 -s rr")
            || !run("ipvsadm -a -t 10.96.0.81:80 -r 10.244.1.3:8080 -m -w 2")
        {
            return println!("skipped: ipvsadm does not work here");
        }
        let table = Table::of_this_netns().unwrap();
        assert_eq!(
            path(&table, 6, "10.96.0.81:80", "10.244.1.3:8080"),
            Some((
                "TCP 10.96.0.81:80 rr -> 10.244.1.3:8080 Masq weight 2".to_owned(),
                true
            ))
        );
    });
}

/// As `ip_vs_info_seq_show` prints it.
fn printed(table: &Table) -> String {
    let address = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from(ip), address.port()),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:04x}"));
            format!("[{}]:{:04X}", groups.join(":"), address.port())
        }
    };
    let mut text: String = TEXT.lines().take(3).flat_map(|line| [line, "\n"]).collect();
    for server in table.servers() {
        let _ = match server.service {
            Service::Address(protocol, at) => write!(text, "{protocol}  {}", address(at)),
            Service::Mark(mark) => write!(text, "FWM  {mark:08X}"),
        };
        let ops = if server.one_packet { "ops " } else { "" };
        let _ = write!(text, " {} {ops}", server.scheduler);
        if server.persistent {
            text += "persistent 2700000 FFFFFFFF";
        }
        text += "\n";
        for real in &server.real {
            let (to, method, weight) = (address(real.address), real.forwarding, real.weight);
            let _ = writeln!(
                text,
                "  -> {to}      {method:<7} {weight:<6} 0          1         "
            );
        }
    }
    text
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![v4, v6], any::<u16>()).prop_map(SocketAddr::from)
}

fn real_server() -> impl Strategy<Value = RealServer> {
    let forwarding = prop::sample::select(vec![
        Forwarding::Masquerading,
        Forwarding::Local,
        Forwarding::Tunnel,
        Forwarding::Route,
    ]);
    (address(), forwarding, any::<i32>()).prop_map(|(address, forwarding, weight)| RealServer {
        address,
        forwarding,
        weight,
    })
}

fn virtual_server() -> impl Strategy<Value = VirtualServer> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let of_address = (protocol, address()).prop_map(|(p, at)| Service::Address(p, at));
    let service = prop_oneof![of_address, any::<u32>().prop_map(Service::Mark)];
    let real = prop::collection::vec(real_server(), 0..6);
    let flags = any::<[bool; 2]>();
    (service, "[a-z]{1,15}", flags, real).prop_map(|(service, scheduler, flags, real)| {
        let [persistent, one_packet] = flags;
        VirtualServer {
            service,
            scheduler,
            persistent,
            one_packet,
            real,
        }
    })
}

proptest! {
    #[test]
    fn what_a_kernel_prints_is_read_back(servers in prop::collection::vec(virtual_server(), 0..12)) {
        let whole = Table::from(servers);
        prop_assert_eq!(table(&printed(&whole)), whole);
    }

    #[test]
    fn each_real_server_is_found_by_its_own_address(
        servers in prop::collection::vec(virtual_server(), 0..8),
    ) {
        let whole = Table::from(servers);
        for server in whole.servers() {
            let Service::Address(protocol, called) = server.service else { continue };
            if called.port() == 0 {
                continue;
            }
            for real in &server.real {
                let untranslated = matches!(real.forwarding, Forwarding::Tunnel | Forwarding::Route);
                if untranslated || real.address.port() == 0 {
                    continue;
                }
                let given = real.address.to_string();
                let (text, certain) = path(&whole, protocol.number(), &called.to_string(), &given).unwrap();
                prop_assert!(text.starts_with(&server.service.to_string()) && certain, "{text}");
            }
        }
    }

    #[test]
    fn any_text_is_a_table_no_larger_than_it(text in any::<String>()) {
        let read: usize = table(&text).servers().iter().map(|server| 1 + server.real.len()).sum();
        prop_assert!(read <= text.lines().count());
    }

    #[test]
    fn a_damaged_table_is_read_as_far_as_it_is_one(
        at in 0..TEXT.len(),
        piece in "[ \\->:\\[\\]0-9A-Fa-fTCPUDWMx\n\u{1b}]{0,12}",
    ) {
        let mut text = TEXT.to_owned();
        text.replace_range(at..(at + piece.len()).min(TEXT.len()), &piece);
        let read = table(&text);
        prop_assert!(read.servers().is_sorted_by_key(|server| server.service));
        prop_assert!(read.servers().len() <= 10);
        // What stands before the damage is as it was.
        let whole = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        if whole > 8 {
            prop_assert!(read.called_at(6, socket("10.96.0.81:80")).is_some());
        }
    }
}
