//! Tables as kernels print them, and as nobody does.

use std::{fmt::Write as _, net::IpAddr};

use proptest::prelude::*;

use super::{parse::table, *};
use crate::node::testing::{in_new_netns, root, run};

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

/// What the table says of a packet, as lines.
fn says(table: &Table, protocol: u8, called: &str, given: &str) -> Option<String> {
    let entry = table.entry(protocol, socket(called), socket(given))?;
    let real = entry.real.map(ToString::to_string).unwrap_or_default();
    Some(format!("{} {real}", entry.server))
}

#[test]
fn an_entry_is_the_virtual_server_and_the_real_one() {
    let table = table(TEXT);
    let says = |protocol, called, given| says(&table, protocol, called, given);
    assert_eq!(
        says(6, "10.96.0.81:80", "10.244.1.3:8080").as_deref(),
        Some("TCP 10.96.0.81:80 rr persistent -> 10.244.1.3:8080 Masq weight 1")
    );
    assert_eq!(
        says(17, "[fd00:10:96::10]:53", "[fd00:10:244:1::3]:5353").as_deref(),
        Some("UDP [fd00:10:96::10]:53 rr -> [fd00:10:244:1::3]:5353 Masq weight 1")
    );
    assert_eq!(
        says(17, "10.96.0.10:53", "10.244.1.3:5353").as_deref(),
        Some("UDP 10.96.0.10:53 wlc ops -> 10.244.1.3:5353 Masq weight 100")
    );
}

#[test]
fn what_is_gone_or_was_never_there_is_not_made_up() {
    let table = table(TEXT);
    let says = |protocol, called, given| says(&table, protocol, called, given);
    let gone = says(6, "10.96.0.81:80", "10.244.7.7:8080");
    assert_eq!(gone.as_deref(), Some("TCP 10.96.0.81:80 rr persistent "));
    assert_eq!(
        says(6, "10.96.0.10:53", "10.244.1.3:5353"),
        None,
        "UDP only"
    );
    assert_eq!(says(6, "10.96.0.99:80", "10.244.1.3:8080"), None);
    assert_eq!(says(1, "10.96.0.81:80", "10.244.1.3:8080"), None);
    assert!(
        table.servers().iter().all(|server| {
            !server
                .real
                .iter()
                .any(|real| real.address == socket("10.244.1.9:5353"))
        }),
        "a server of one that is not understood"
    );
}

#[test]
fn port_zero_is_every_port_and_a_mark_has_no_address() {
    let table = table(TEXT);
    let says = |protocol, called, given| says(&table, protocol, called, given);
    assert_eq!(
        says(6, "192.168.77.11:443", "10.244.1.4:443").as_deref(),
        Some("TCP 192.168.77.11:0 rr persistent -> 10.244.1.4:0 Route weight 1")
    );
    assert_eq!(
        says(6, "192.168.77.11:443", "10.244.1.4:444").as_deref(),
        Some("TCP 192.168.77.11:0 rr persistent ")
    );
    assert_eq!(
        says(6, "203.0.113.7:80", "10.244.1.5:80").as_deref(),
        Some("FWM 7 sh -> 10.244.1.5:80 Tunnel weight 3")
    );
}

#[test]
fn an_entry_read_twice_is_one_and_the_later_counts() {
    let again = format!("{TEXT}TCP  0A600051:0050 lc \n  -> 0AF40103:1F90 Masq 5 0 0\n");
    assert_eq!(
        says(&table(&again), 6, "10.96.0.81:80", "10.244.1.3:8080").as_deref(),
        Some("TCP 10.96.0.81:80 lc -> 10.244.1.3:8080 Masq weight 5")
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
            says(&table, 6, "10.96.0.81:80", "10.244.1.3:8080").as_deref(),
            Some("TCP 10.96.0.81:80 rr -> 10.244.1.3:8080 Masq weight 2")
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
            let number = match protocol { Protocol::Tcp => 6, Protocol::Udp => 17, Protocol::Sctp => 132 };
            for real in &server.real {
                let entry = whole.entry(number, called, real.address).unwrap();
                prop_assert_eq!((entry.server, entry.real), (server, Some(real)));
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
            prop_assert!(read.entry(6, socket("10.96.0.81:80"), socket("10.244.1.3:8080")).is_some());
        }
    }
}
