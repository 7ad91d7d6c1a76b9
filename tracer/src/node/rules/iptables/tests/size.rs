//! Many rules: what reading and evaluating them costs.

use std::{fmt::Write as _, net::Ipv4Addr, time::Instant};

use super::super::{RuleSet, Tables};
use crate::node::rules::{
    evaluate::explain,
    outcome::Observed,
    path::Source,
    subject::{Elsewhere, Family, Hook, States, Subject},
};

/// Services, each with two endpoints: in kube-proxy's iptables mode some 20,000 rules are those of
/// 2,500 such Services; here are twice as many.
const SERVICES: u32 = 5_000;

fn rules() -> String {
    let mut chains = String::new();
    let mut services = String::new();
    let mut rest = String::new();
    for n in 0..SERVICES {
        let ip = Ipv4Addr::from(0x0a60_0000 + n);
        let _ = write!(
            chains,
            ":KUBE-SVC-{n:016} - [0:0]\n:KUBE-SEP-A{n:015} - [0:0]\n:KUBE-SEP-B{n:015} - [0:0]\n"
        );
        let _ = writeln!(
            services,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp -m comment --comment \"ns/service-{n}:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-{n:016}"
        );
        let _ = writeln!(
            rest,
            "-A KUBE-SVC-{n:016} ! -s 10.244.0.0/16 -d {ip}/32 -p tcp -m comment --comment \"ns/service-{n}:http cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ"
        );
        for (k, (name, probability)) in [
            (
                "A",
                " -m statistic --mode random --probability 0.50000000000",
            ),
            ("B", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let endpoint = Ipv4Addr::from(0x0af4_0000 + 2 * n + u32::from(k == 1));
            let _ = writeln!(
                rest,
                "-A KUBE-SVC-{n:016} -m comment --comment \"ns/service-{n}:http -> {endpoint}:8080\"{probability} -j KUBE-SEP-{name}{n:015}"
            );
            let _ = writeln!(
                rest,
                "-A KUBE-SEP-{name}{n:015} -s {endpoint}/32 -m comment --comment \"ns/service-{n}:http\" -j KUBE-MARK-MASQ"
            );
            let _ = writeln!(
                rest,
                "-A KUBE-SEP-{name}{n:015} -p tcp -m comment --comment \"ns/service-{n}:http\" -m tcp -j DNAT --to-destination {endpoint}:8080"
            );
        }
    }
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n{chains}\
         -A PREROUTING -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n{services}{rest}COMMIT\n"
    )
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Bounds are far above what is needed, for slow machines and builds without optimization.
#[test]
fn five_thousand_services_are_read_and_evaluated_in_time() {
    let text = rules();
    let before = resident();
    let start = Instant::now();
    let set = RuleSet::new(
        Family::V4,
        Source::IptablesNft,
        Tables::parse(&text).unwrap(),
    );
    let read = start.elapsed();
    assert_eq!(set.services().len(), 5_000);
    let services = start.elapsed();
    let memory = resident().saturating_sub(before) / 1024;
    let mut evaluations = Vec::new();
    for n in [0, SERVICES / 2, SERVICES - 1] {
        let to = Ipv4Addr::from(0x0a60_0000 + n);
        let mut syn = Subject::new(Hook::Prerouting, [10, 244, 0, 1].into(), to.into(), 6);
        syn.destination_port = Some(80);
        syn.connection.states = States::NEW;
        let endpoint = Ipv4Addr::from(0x0af4_0000 + 2 * n + 1);
        let start = Instant::now();
        let seen = Observed::Destination((endpoint, 8080).into());
        let explanation = explain(&[&set], &syn, &Elsewhere, seen);
        evaluations.push(start.elapsed());
        let [(_, path)] = &explanation.paths[..] else {
            panic!("{explanation:#?}");
        };
        assert_eq!(path.service.as_ref().unwrap().endpoint, Some((2, 2)));
    }
    eprintln!(
        "{} rules, {} kB of text: parsed in {read:?}, with Services in {services:?}, {memory} MB; evaluations {evaluations:?}",
        set.tables().rules(),
        text.len() / 1024,
    );
    assert!(
        services.as_secs() < 20 && memory < 200,
        "{services:?}, {memory} MB"
    );
    assert!(evaluations[1..].iter().all(|time| time.as_millis() < 100));
}
