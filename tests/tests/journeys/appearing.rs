//! Rules and namespaces that come while the tracer runs are observed, and what passed before they
//! were is marked.

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::clock::now;
use tracer_tests::trace::json::{Hop, Packet, Stage, State, Trace};
use tracer_tests::trace::judge::{self, Case, Ends};
use tracer_tests::trace::process::{Running, wait_until, whole_lab};

use super::connection::Planned;
use super::paths::{Connection, Outcome, Target};

/// The client ports of the two tests begin here.
const RULES_PORT: u16 = 24000;
const LAB_PORT: u16 = 25000;

const TO_POD: Connection = Connection {
    name: "to a pod that gets rules",
    from: "a1",
    to: Target::Pod("b1"),
    ipv6: false,
    original: "a1 > node1 > b1",
    reply: "b1 > node1 > a1",
    outcome: Outcome::Answered,
};
const TO_SERVICE: Connection = Connection {
    name: "in a lab that comes up while traced",
    to: Target::Service("web-node2"),
    original: "a1 > node1[prerouting dnat] > node2 > b2",
    reply: "b2 > node2 > node1[postrouting un-dnat] > a1",
    ..TO_POD
};

/// Makes connections, each from a port of its own, until what was printed is enough.
fn connect_until(
    lab: &Lab,
    (connection, mut port): (&Connection, u16),
    watch: &Running,
    enough: impl Fn(&Trace) -> bool,
) -> anyhow::Result<u16> {
    wait_until(|| {
        port += 1;
        Planned::new(lab, connection, port)?.make()?;
        let trace = Trace::read(watch.output().lines())?;
        Ok((!enough(&trace)).then(|| format!("not seen: {}", connection.name)))
    })?;
    Ok(port)
}

#[test]
fn a_namespace_that_gets_rules_while_traced_is_observed() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let netns = lab.netns("b1");
    let watch = Running::watch(["--json", &whole_lab(&lab)])?;
    Planned::new(&lab, &TO_POD, RULES_PORT)?.make()?;
    // Pods have no rules; now one has.
    let before = now();
    let table = "table inet lab { chain input { type filter hook input priority 0; \
                 ct state new tcp dport 8080 counter accept; }; }";
    lab.run(lab.command("b1", "nft").arg(table))?;
    let after = now();
    let observed = |packet: &Packet| when(packet, Stage::Input, &netns).is_some();
    connect_until(&lab, (&TO_POD, RULES_PORT), &watch, |trace| {
        trace.packets.iter().any(observed)
    })?;
    let trace = watch.stop()?;

    let inputs = trace
        .packets
        .iter()
        .filter_map(|p| when(p, Stage::Input, &netns));
    let first = inputs.min().context("not observed")?;
    ensure!(first > before, "observed before there were rules");
    for packet in trace.packets.iter().filter(|packet| packet.proto == "tcp") {
        let Some(received) = when(packet, Stage::Receive, &netns) else {
            continue;
        };
        let holes = packet.hops.iter().filter_map(|hop| hop.hole.as_ref());
        let marks: Vec<&str> = holes.map(|hole| hole.kind.as_str()).collect();
        let right = if observed(packet) {
            received > before && marks.is_empty()
        } else if received < before {
            marks.is_empty()
        } else {
            received < first && (received < after || marks == ["netfilter-unobserved"])
        };
        ensure!(right, "{}", judge::ladder(packet));
    }
    lab.down()
}

/// When the packet was at that stage in the namespace.
fn when(packet: &Packet, stage: Stage, netns: &str) -> Option<u64> {
    let at = |hop: &&Hop| hop.stage == stage && hop.netns.as_deref() == Some(netns);
    packet.hops.iter().find(at).map(|hop| hop.t)
}

#[test]
fn a_lab_that_comes_up_while_traced_is_observed() -> anyhow::Result<()> {
    needs_a_lab!();
    // Its namespaces have no names yet that a filter could ask for.
    let ports = format!("portrange {LAB_PORT}-{}", LAB_PORT + 999);
    let watch = Running::watch(["--json", &ports])?;
    let lab = Lab::up(&Config::default())?;
    let of_lab = |name: &Option<String>| name.as_ref().is_some_and(|n| n.starts_with(lab.id()));
    let translated = |trace: &Trace| {
        let mut flows = trace.flows.iter().filter(|flow| of_lab(&flow.client.netns));
        flows.any(|flow| !flow.translations.is_empty())
    };
    let port = connect_until(&lab, (&TO_SERVICE, LAB_PORT), &watch, translated)?;
    // From now on everything is there.
    let planned = Planned::new(&lab, &TO_SERVICE, port + 1)?;
    planned.make()?;
    wait_until(|| {
        let trace = Trace::read(watch.output().lines())?;
        let over = trace.flow("tcp", planned.client).is_ok();
        Ok((!over).then(|| "the flow does not end".to_owned()))
    })?;
    let trace = watch.stop()?;
    let case = Case {
        lab: &lab,
        ends: Ends {
            client: planned.client,
            destination: planned.destination,
            backend: planned.backend,
            masquerade: None,
        },
        original: &planned.original,
        reply: &planned.reply,
        state: State::Closed,
    };
    judge::flow(&trace, trace.flow("tcp", planned.client)?, &case)?;
    lab.down()
}
