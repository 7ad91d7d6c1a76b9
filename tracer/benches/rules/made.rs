//! The rules of a node with many Services, as kube-proxy writes them in each of its modes; and what loads
//! them into the calling process's network namespace.
//!
//! Each Service has a ClusterIP, one port and one endpoint: five rules in iptables mode, four and an
//! element of a map in nftables mode.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// A form of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    IptablesNft,
    IptablesLegacy,
    Nftables,
    Ipvs,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
            Self::Ipvs => "IPVS",
        }
    }

    /// Loads the rules of so many Services; false where that is not possible here.
    pub(crate) fn load(self, services: u32) -> io::Result<bool> {
        match self {
            Self::IptablesNft => feed("iptables-nft-restore", &[], &iptables(services)),
            Self::IptablesLegacy => feed("iptables-legacy-restore", &[], &iptables(services)),
            Self::Nftables => feed("nft", &["-f", "-"], &nftables(services)),
            Self::Ipvs => feed("ipvsadm", &["-R"], &ipvs(services)),
        }
    }

    /// Changes one rule of them.
    pub(crate) fn change(self) -> io::Result<bool> {
        let line = match self {
            Self::IptablesNft => "iptables-nft -A FORWARD -j ACCEPT",
            Self::IptablesLegacy => "iptables-legacy -A FORWARD -j ACCEPT",
            Self::Nftables => "nft add rule ip kube-proxy services accept",
            Self::Ipvs => "ipvsadm -A -t 10.111.0.1:80 -s rr",
        };
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        feed(program, &words.collect::<Vec<_>>(), "")
    }
}

/// Where a Service is called.
pub(crate) fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + number)
}

/// Its endpoint, at port 8080.
pub(crate) fn endpoint(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0af4_0000 + number)
}

fn feed(program: &str, arguments: &[&str], text: &str) -> io::Result<bool> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        child => child?,
    };
    if let Some(mut input) = child.stdin.take() {
        // A program that refuses does not read on.
        let _ = input.write_all(text.as_bytes());
    }
    Ok(child.wait()?.success())
}

pub(crate) fn iptables(services: u32) -> String {
    let (mut chains, mut first, mut rest) = (String::new(), String::new(), String::new());
    for n in 0..services {
        let (ip, to) = (cluster_ip(n), endpoint(n));
        let comment = format!("-m comment --comment \"ns/service-{n}:http");
        let _ = writeln!(
            chains,
            ":KUBE-SVC-{n:016} - [0:0]\n:KUBE-SEP-{n:016} - [0:0]"
        );
        let _ = writeln!(
            first,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp {comment} cluster IP\" -m tcp --dport 80 -j KUBE-SVC-{n:016}"
        );
        let _ = write!(
            rest,
            "-A KUBE-SVC-{n:016} ! -s 10.244.0.0/16 -d {ip}/32 -p tcp {comment} cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ\n\
             -A KUBE-SVC-{n:016} {comment} -> {to}:8080\" -j KUBE-SEP-{n:016}\n\
             -A KUBE-SEP-{n:016} -s {to}/32 {comment}\" -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{n:016} -p tcp {comment}\" -m tcp -j DNAT --to-destination {to}:8080\n"
        );
    }
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n{chains}\
         -A PREROUTING -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n{first}{rest}COMMIT\n"
    )
}

fn nftables(services: u32) -> String {
    let (mut elements, mut chains) = (String::new(), String::new());
    for n in 0..services {
        let (ip, to) = (cluster_ip(n), endpoint(n));
        let service = format!("service-{n:08}-ns/service-{n}/tcp/http");
        let end = format!("endpoint-{n:08}-ns/service-{n}/tcp/http__{to}/8080");
        let _ = writeln!(elements, "{ip} . tcp . 80 : goto {service},");
        let _ = write!(
            chains,
            "chain {end} {{\nip saddr {to} jump mark-for-masquerade\nmeta l4proto tcp dnat to {to}:8080\n}}\n\
             chain {service} {{\nip daddr {ip} tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade\n\
             numgen random mod 1 vmap {{ 0 : goto {end} }}\n}}\n"
        );
    }
    format!(
        "table ip kube-proxy {{\n\
         comment \"rules for kube-proxy\"\n\
         chain mark-for-masquerade {{\nmark set mark or 0x4000\n}}\n\
         {chains}\
         map service-ips {{\ntype ipv4_addr . inet_proto . inet_service : verdict\nelements = {{ {elements} }}\n}}\n\
         chain services {{\nip daddr . meta l4proto . th dport vmap @service-ips\n}}\n\
         chain nat-prerouting {{\ntype nat hook prerouting priority dstnat; policy accept;\njump services\n}}\n}}\n"
    )
}

fn ipvs(services: u32) -> String {
    let mut text = String::new();
    for n in 0..services {
        let (ip, to) = (cluster_ip(n), endpoint(n));
        let _ = writeln!(
            text,
            "-A -t {ip}:80 -s rr\n-a -t {ip}:80 -r {to}:8080 -m -w 1"
        );
    }
    text
}
