//! What goes wrong in clusters, made to go wrong in a lab: the diagnosis names the layer and the
//! culprit, and is gone with the fault.
//!
//! Each fault is made with the tools that an operator would make it with by mistake, in a node's own
//! namespace.

#[path = "faults/conntrack.rs"]
mod conntrack;
#[path = "faults/dns.rs"]
mod dns;
#[path = "faults/filter.rs"]
mod filter;
#[path = "faults/healthy.rs"]
mod healthy;
#[path = "faults/routing.rs"]
mod routing;
#[path = "faults/server.rs"]
mod server;
#[path = "faults/service.rs"]
mod service;
#[path = "faults/silence.rs"]
mod silence;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::Lab;
use tracer_tests::trace::json::{DiagnosisInfo, Flow};
use tracer_tests::trace::process;

/// In seconds: what a client waits for whose packets are dropped before the tracer's eyes.
const SHORT: &str = "0.4";
/// Longer than a SYN is waited for.
const LONG: &str = "1.6";
/// As long as it takes.
const PATIENT: &str = "30";

/// Traces a client that is run in the namespace, and returns the flows that it made. How the client
/// ends is not judged here.
fn flows_of(lab: &Lab, from: &str, client: &str) -> anyhow::Result<Vec<Flow>> {
    let netns = lab.netns(from);
    let arguments = ["run", "--netns", &netns, "--json", "--"];
    let ended = process::run(arguments.into_iter().chain(client.split(' ')))?;
    let trace = ended.trace()?;
    let totals = trace.totals()?;
    ensure!(totals.lost == 0, "{totals:?}");
    let flows = own(lab, trace.flows)?;
    ensure!(!flows.is_empty(), "{client} from {from}: {ended:#?}");
    Ok(flows)
}

/// The flows, if they are the lab's own: labs have the same addresses and the kernel takes ports for them by the
/// same secret, so another lab's connection can have the very same tuple at the same time.
fn own(lab: &Lab, flows: Vec<Flow>) -> anyhow::Result<Vec<Flow>> {
    let elsewhere = |flow: &&Flow| {
        let netns = flow.client.netns.as_deref();
        !netns.is_some_and(|netns| netns.starts_with(lab.id()))
    };
    let foreign = flows.iter().find(elsewhere);
    ensure!(foreign.is_none(), "of another lab: {foreign:#?}");
    Ok(flows)
}

fn curl(seconds: &str, to: impl std::fmt::Display) -> String {
    format!("curl --silent --show-error --max-time {seconds} http://{to}/")
}

/// What a diagnosis is to say.
struct Expected<'a> {
    layer: &'a str,
    cause: &'a str,
    /// In the culprit.
    culprit: &'a str,
    /// In the sentence.
    said: &'a [&'a str],
}

/// The client's only flow has that diagnosis.
fn diagnosed(
    lab: &Lab,
    (from, client): (&str, &str),
    expected: &Expected<'_>,
) -> anyhow::Result<()> {
    let flows = flows_of(lab, from, client)?;
    let [flow] = &flows[..] else {
        anyhow::bail!("{} flows instead of one: {flows:#?}", flows.len());
    };
    is_diagnosed(flow, expected).with_context(|| format!("{client} from {from}"))
}

fn is_diagnosed(flow: &Flow, expected: &Expected<'_>) -> anyhow::Result<()> {
    let (Some(sentence), Some(info)) = (&flow.diagnosis, &flow.diagnosis_info) else {
        anyhow::bail!("no diagnosis: {flow:#?}");
    };
    println!("{sentence}");
    let DiagnosisInfo {
        layer,
        cause,
        culprit,
        evidence,
        ..
    } = info;
    let culprit = culprit.as_deref().unwrap_or_default();
    ensure!(
        layer == expected.layer
            && cause == expected.cause
            && culprit.contains(expected.culprit)
            && !evidence.is_empty(),
        "{info:#?}"
    );
    let missing: Vec<_> = expected
        .said
        .iter()
        .filter(|word| !sentence.contains(**word))
        .collect();
    ensure!(missing.is_empty(), "{missing:?} not in {sentence}");
    Ok(())
}

/// The client's flows are well.
fn healthy(lab: &Lab, from: &str, client: &str) -> anyhow::Result<()> {
    for flow in flows_of(lab, from, client)? {
        ensure!(
            flow.diagnosis.is_none() && flow.diagnosis_info.is_none(),
            "{client} from {from}: {flow:#?}"
        );
    }
    Ok(())
}

/// Words of a command that is run in the namespace.
fn on(lab: &Lab, place: &str, line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let program = words.next().context("no program")?;
    lab.run(lab.command(place, program).args(words)).map(drop)
}
