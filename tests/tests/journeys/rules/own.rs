//! Rules of an operator's own that drop or reject, in every hook, in chains of their own and by a
//! chain's policy: each is inserted while tracing, and the next packet is the one to be explained.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Fabric, Lab, Plugin, Proxy};
use tracer_tests::trace::json::{Candidate, Packet, Stage, Trace};
use tracer_tests::trace::process::{self, Running};

use super::super::connection::address;
use super::counted::{Counters, Named};

/// curl's exit status.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;
const FIRST_PORT: u16 = 27600;

/// Rules, and a call that they drop. `PORT` stands for the client's port.
struct Case {
    name: &'static str,
    /// Arguments of `iptables`, a call a line.
    iptables: &'static str,
    /// What takes them back.
    undo: &'static str,
    /// The content of a table of family `ip`.
    nft: &'static str,
    from: &'static str,
    to: &'static str,
    port: u16,
    status: i32,
    stage: Stage,
    /// The words of the last step.
    says: [&'static str; 2],
    certain: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "DROP in FORWARD, by ports and connection state",
        iptables: "-I FORWARD -p tcp -m multiport --sports 1,PORT -m conntrack --ctstate NEW -j DROP",
        undo: "-D FORWARD 1",
        nft: "chain own { type filter hook forward priority -5; tcp sport {1, PORT} ct state new counter drop; }",
        from: "a1",
        to: "b2",
        port: 8080,
        status: TIMED_OUT,
        stage: Stage::Forward,
        says: ["DROP", "drop"],
        certain: true,
    },
    Case {
        name: "REJECT in FORWARD with a reset",
        iptables: "-I FORWARD -p tcp --sport PORT -j REJECT --reject-with tcp-reset",
        undo: "-D FORWARD 1",
        nft: "chain own { type filter hook forward priority -5; tcp sport PORT counter reject with tcp reset; }",
        from: "a1",
        to: "b2",
        port: 8080,
        status: REFUSED,
        stage: Stage::Forward,
        says: ["REJECT --reject-with tcp-reset", "reject with tcp reset"],
        certain: true,
    },
    Case {
        name: "DROP in INPUT",
        iptables: "-I INPUT -i cni+ -p tcp --sport PORT -j DROP",
        undo: "-D INPUT 1",
        nft: "chain own { type filter hook input priority -5; iifname \"cni*\" tcp sport PORT counter drop; }",
        from: "a1",
        to: "node1",
        port: 9,
        status: TIMED_OUT,
        stage: Stage::Input,
        says: ["DROP", "drop"],
        certain: true,
    },
    Case {
        name: "REJECT in INPUT, two chains deep",
        iptables: "-N OWN\n-N OWN-2\n-A OWN -p tcp -m comment --comment guarded -g OWN-2\n\
                   -A OWN-2 -p udp -j ACCEPT\n-A OWN-2 -s 10.244.0.0/16 -p tcp --sport PORT -j REJECT\n\
                   -I INPUT -j OWN",
        undo: "-D INPUT 1\n-F OWN\n-F OWN-2\n-X OWN\n-X OWN-2",
        nft: "chain own-2 { meta l4proto udp counter accept; ip saddr 10.244.0.0/16 tcp sport PORT counter reject; }\n\
              chain own-1 { meta l4proto tcp counter goto own-2 comment \"guarded\"; }\n\
              chain own { type filter hook input priority -5; counter jump own-1; }",
        from: "a1",
        to: "node1",
        port: 9,
        status: REFUSED,
        stage: Stage::Input,
        says: ["REJECT", "reject"],
        certain: true,
    },
    Case {
        name: "DROP in raw PREROUTING",
        iptables: "-t raw -I PREROUTING -p tcp --sport PORT -j DROP",
        undo: "-t raw -D PREROUTING 1",
        nft: "chain own { type filter hook prerouting priority raw; tcp sport PORT counter drop; }",
        from: "a1",
        to: "b2",
        port: 8080,
        status: TIMED_OUT,
        stage: Stage::Prerouting,
        says: ["DROP", "drop"],
        certain: true,
    },
    Case {
        name: "DROP in OUTPUT",
        iptables: "-I OUTPUT -p tcp --sport PORT -j DROP",
        undo: "-D OUTPUT 1",
        nft: "chain own { type filter hook output priority -5; tcp sport PORT counter drop; }",
        from: "node1",
        to: "outside",
        port: 8080,
        status: TIMED_OUT,
        stage: Stage::Output,
        says: ["DROP", "drop"],
        certain: true,
    },
    Case {
        // The first packets of a while are accepted, but for the flow's packet that was not.
        name: "DROP behind a limit that cannot be decided",
        iptables: "-I FORWARD -p tcp --sport PORT -j DROP\n\
                   -I FORWARD -p tcp --sport PORT -m limit --limit 1/hour --limit-burst 1 -j ACCEPT\n\
                   -I FORWARD -p tcp --sport PORT -m limit --limit 1/hour --limit-burst 1 -j DROP",
        undo: "-D FORWARD 1\n-D FORWARD 1\n-D FORWARD 1",
        nft: "chain own { type filter hook forward priority -5; \
              tcp sport PORT limit rate 1/hour burst 1 packets counter drop; \
              tcp sport PORT limit rate 1/hour burst 1 packets counter accept; \
              tcp sport PORT counter drop; }",
        from: "a1",
        to: "b2",
        port: 8080,
        status: TIMED_OUT,
        stage: Stage::Forward,
        says: ["DROP", "drop"],
        certain: false,
    },
    Case {
        name: "FORWARD's policy",
        iptables: "-P FORWARD DROP",
        undo: "-P FORWARD ACCEPT",
        nft: "chain own { type filter hook forward priority -5; policy drop; counter; }",
        from: "a1",
        to: "b2",
        port: 8080,
        status: TIMED_OUT,
        stage: Stage::Forward,
        says: ["DROP", "drop"],
        certain: true,
    },
];

fn own_rules(proxy: Proxy, number: u16) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config {
        plugin: Plugin::Bridge,
        fabric: Fabric::Routed,
        proxy,
    })?;
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let ports = FIRST_PORT + 50 * number..;
    let made = ports.zip(CASES).map(|(port, case)| {
        let counters = make(&lab, case, port, &watch);
        Ok((case, port, counters.context(case.name)?))
    });
    let made: Vec<_> = made.collect::<anyhow::Result<_>>()?;
    let trace = watch.stop()?;
    let mut failures = Vec::new();
    for (case, port, counters) in &made {
        if let Err(error) = judge(&lab, (case, *port), counters, &trace) {
            failures.push(format!("== {}: {error:#}", case.name));
        }
    }
    ensure!(failures.is_empty(), "{proxy}:\n{}", failures.join("\n\n"));
    lab.down()
}

fn make(lab: &Lab, case: &Case, port: u16, watch: &Running) -> anyhow::Result<Counters> {
    let iptables = |lines: &str| {
        lines.lines().try_for_each(|line| {
            let line = line.replace("PORT", &port.to_string());
            let mut iptables = lab.iptables("node1");
            lab.run(iptables.args(line.split_ascii_whitespace()))?;
            anyhow::Ok(())
        })
    };
    let nft = |text: &str| lab.run(lab.command("node1", "nft").arg(text)).map(drop);
    let own = lab.config().proxy == Proxy::Nftables;
    if own {
        let content = case.nft.replace("PORT", &port.to_string());
        nft(&format!("table ip own {{\n{content}\n}}\n"))?;
    } else {
        iptables(case.iptables)?;
    }
    let before = Counters::read(lab)?;
    let client = SocketAddr::new(address(lab, case.from, false), port).to_string();
    let url = format!("http://{}:{}/", address(lab, case.to, false), case.port);
    let mut curl = lab.command(case.from, "curl");
    let curl = curl.args(["--silent", "--max-time", "0.3", "--local-port"]);
    let status = curl.args([&port.to_string(), &url]).output()?.status;
    ensure!(status.code() == Some(case.status), "curl: {status}");
    let counters = Counters::read(lab)?.since(&before);
    process::wait_until(|| {
        let output = watch.output();
        let mut lines = output.lines();
        let shown = lines.any(|line| line.contains(&client) && line.contains("\"dropped\""));
        Ok((!shown).then(|| "no drop was shown".to_owned()))
    })?;
    if own {
        nft("delete table ip own")?;
    } else {
        iptables(case.undo)?;
    }
    Ok(counters)
}

fn judge(
    lab: &Lab,
    (case, port): (&Case, u16),
    counters: &Counters,
    trace: &Trace,
) -> anyhow::Result<()> {
    let client = SocketAddr::new(address(lab, case.from, false), port);
    let flow = trace.flow("tcp", client)?;
    let packets = trace.packets_of(flow);
    let dropped: Vec<&&Packet> = packets
        .iter()
        .filter(|packet| packet.drop.is_some())
        .collect();
    ensure!(!dropped.is_empty(), "nothing was dropped: {flow:#?}");
    let mut named = Named::new(lab, false);
    for packet in dropped {
        let drop = packet.drop.as_ref().context("no drop")?;
        ensure!(drop.at == case.stage, "{drop:#?}");
        let info = drop.rule_info.as_ref();
        let info = info.with_context(|| format!("no rule: {drop:#?}"))?;
        ensure!(info.inferred && info.certain == case.certain, "{drop:#?}");
        ensure!(info.service.is_none(), "{drop:#?}");
        if case.certain {
            let rule = drop.rule.as_ref().context("no rule")?;
            let last = rule.last().context("no steps")?;
            let says = case.says.iter().any(|words| last.text.contains(words));
            ensure!(says, "{last:#?}");
            named.dropped(drop.netns.as_deref(), rule)?;
        } else {
            let why = |words: &str| {
                let mut all = info.candidates.iter().flat_map(|it| &it.undecided);
                all.any(|why| why.contains(words))
            };
            ensure!(why("limit"), "{drop:#?}");
            // Rules are added one by one; what stood there a moment before has other numbers.
            let current = |it: &&Candidate| {
                let mut reasons = it.undecided.iter();
                !reasons.any(|why| why.contains("rules changed"))
            };
            let candidates: Vec<&Candidate> = info.candidates.iter().filter(current).collect();
            ensure!(drop.rule.is_none() && candidates.len() == 2, "{drop:#?}");
            // Exactly one of them did it, which only the counters know.
            let by = candidates.iter().filter(|it| {
                let mut one = Named::new(lab, false);
                let known = one.dropped(drop.netns.as_deref(), &it.rule);
                known.is_ok() && counters.confirm(&one).is_ok()
            });
            ensure!(by.count() == 1, "{drop:#?}\n{counters:#?}");
            return Ok(());
        }
    }
    counters.confirm(&named)
}

#[test]
fn iptables_nft() -> anyhow::Result<()> {
    own_rules(Proxy::IptablesNft, 0)
}

#[test]
fn iptables_legacy() -> anyhow::Result<()> {
    own_rules(Proxy::IptablesLegacy, 1)
}

#[test]
fn nftables() -> anyhow::Result<()> {
    own_rules(Proxy::Nftables, 2)
}
