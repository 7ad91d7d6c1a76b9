//! What changes while tracing is known within a second: an endpoint that is switched, a rule that is inserted,
//! a pod that is deleted and made again with the same address. Before the change all is as it was.
//!
//! Time is that of the packets. A machine that is busy may keep the tracer from looking, so half of the
//! changes of a kind must be known in time; all must be known before the next one.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, HTTP_PORT, Lab, Proxy};
use tracer_tests::trace::clock::now;
use tracer_tests::trace::json::{Flow, Kind, Trace};
use tracer_tests::trace::process::{self, Running};

const SECOND: u64 = 1_000_000_000;
const CHANGES: usize = 4;
/// Calls after each change, so long apart: some come later than a second after it.
const CALLS: usize = 16;
const APART: Duration = Duration::from_millis(100);
/// What is dropped waits for rules that changed just before it; those of both times may have done it then.
const WAITING: u64 = SECOND / 2;
const SERVICE: &str = "web-node1";

/// A change, and what is to be seen of calls from then on, until the next one.
struct Change {
    from: u64,
    until: u64,
    expected: String,
}

/// Makes changes, each followed by calls.
fn changes(
    lab: &mut Lab,
    change: impl Fn(&mut Lab, usize) -> anyhow::Result<String>,
    call: impl Fn(&Lab) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    for number in 0..CHANGES {
        let until = now();
        if let Some(last) = changes.last_mut() {
            last.until = until;
        }
        let expected = change(lab, number)?;
        changes.push(Change {
            from: now(),
            until: u64::MAX,
            expected,
        });
        for _ in 0..CALLS {
            call(lab)?;
            thread::sleep(APART);
        }
    }
    Ok(changes)
}

/// Whether the call was answered.
fn call(lab: &Lab, url: &str, seconds: &str) -> anyhow::Result<bool> {
    let mut curl = lab.command("a1", "curl");
    let output = curl
        .args(["--silent", "--max-time", seconds, url])
        .output()?;
    Ok(output.status.success())
}

/// Judges what was seen of each call: when it was made, and what was said of it.
fn judge(changes: &[Change], seen: &[(u64, Option<String>)]) -> anyhow::Result<()> {
    let mut prompt = 0;
    for (number, change) in changes.iter().enumerate() {
        let window = change.from + SECOND..change.until.saturating_sub(WAITING);
        let late = seen.iter().filter(|(time, _)| window.contains(time));
        let late: Vec<_> = late.map(|(_, said)| said.as_deref()).collect();
        ensure!(
            !late.is_empty(),
            "no calls late enough after change {number}"
        );
        prompt += usize::from(late.iter().all(|said| *said == Some(&*change.expected)));
        // Before the next change all has long been known.
        let last = late.last().copied().flatten();
        ensure!(
            last == Some(&*change.expected),
            "before change {}: {last:?}, not {}",
            number + 1,
            change.expected
        );
    }
    ensure!(
        2 * prompt >= changes.len(),
        "only {prompt} of {} changes were known in time",
        changes.len()
    );
    Ok(())
}

/// The endpoint, as the rule and the pod's name have it, if the rule is certain.
fn endpoint(lab: &Lab, flow: &Flow) -> Option<String> {
    let dnat = flow.translations.iter().find(|it| it.kind == Kind::Dnat)?;
    let info = dnat.rule_info.as_ref().filter(|info| info.certain)?;
    let last = dnat.rule.as_ref()?.last()?;
    let backend = flow.backend.as_ref()?;
    let named = lab
        .pods()
        .iter()
        .find(|pod| Some(pod.full_name()) == backend.pod)?;
    let agree = last.text.contains(&named.ipv4.to_string())
        && info.service.as_ref() == Some(&lab.service(SERVICE).full_name());
    agree.then(|| named.name.clone())
}

fn switched(proxy: Proxy) -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config {
        proxy,
        ..Config::default()
    })?;
    let address = lab.service(SERVICE).cluster_ip;
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let changes = changes(
        &mut lab,
        |lab, number| {
            let pod = ["b2", "b1"][number % 2];
            lab.switch(SERVICE, &[pod])?;
            Ok(pod.to_owned())
        },
        |lab| {
            let answered = call(lab, &format!("http://{address}/"), "30")?;
            ensure!(answered, "no answer");
            Ok(())
        },
    )?;
    let trace = watch.stop()?;
    let called = trace
        .flows
        .iter()
        .filter(|flow| flow.destination.addr.ip() == address);
    let mut seen: Vec<_> = called
        .map(|flow| (flow.first_ns, endpoint(&lab, flow)))
        .collect();
    seen.sort();
    judge(&changes, &seen)?;
    lab.down()
}

#[test]
fn an_endpoint_is_switched_iptables_nft() -> anyhow::Result<()> {
    switched(Proxy::IptablesNft)
}

#[test]
fn an_endpoint_is_switched_nftables() -> anyhow::Result<()> {
    switched(Proxy::Nftables)
}

#[test]
fn a_rule_is_inserted() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config::default())?;
    let server = SocketAddr::from((lab.pod("b1").ipv4, HTTP_PORT));
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let changes = changes(
        &mut lab,
        |lab, number| {
            let comment = format!("change-{number}");
            let rule = "-I FORWARD -p tcp --dport 8080 -j DROP -m comment --comment";
            let mut iptables = lab.iptables("node1");
            lab.run(iptables.args(rule.split(' ')).arg(&comment))?;
            Ok(comment)
        },
        |lab| {
            let answered = call(lab, &format!("http://{server}/"), "0.1")?;
            ensure!(!answered, "it was not dropped");
            Ok(())
        },
    )?;
    let trace = watch.stop()?;
    let mut seen = drops(&trace, server);
    seen.sort();
    judge(&changes, &seen)?;
    lab.down()
}

/// When packets to the server were dropped, and by which rule.
fn drops(trace: &Trace, server: SocketAddr) -> Vec<(u64, Option<String>)> {
    let packets = trace.packets.iter().filter_map(|packet| {
        let drop = packet.drop.as_ref()?;
        let hop = packet.hops.last().filter(|hop| hop.dst == server)?;
        let last = drop.rule.as_ref().and_then(|rule| rule.last());
        let certain = drop.rule_info.as_ref().is_some_and(|info| info.certain);
        let text = last.filter(|_| certain).map(|step| step.text.as_str());
        let mut words = text.unwrap_or_default().split(' ');
        let comment = words.find(|word| *word == "--comment").and(words.next());
        Some((hop.t, comment.map(str::to_owned)))
    });
    packets.collect()
}

#[test]
fn a_pod_takes_anothers_place_and_address() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config::default())?;
    let server = SocketAddr::from((lab.pod("b1").ipv4, HTTP_PORT));
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let changes = changes(
        &mut lab,
        |lab, number| {
            let [old, new] = if number % 2 == 0 {
                ["b1", "b3"]
            } else {
                ["b3", "b1"]
            };
            let before = lab.delete_pod(old)?;
            lab.replace_pod(new, &before)?;
            Ok(lab.pod(new).full_name())
        },
        |lab| {
            let answered = call(lab, &format!("http://{server}/"), "30")?;
            ensure!(answered, "no answer");
            Ok(())
        },
    )?;
    let trace = watch.stop()?;
    let called = trace
        .flows
        .iter()
        .filter(|flow| flow.destination.addr == server);
    let named = called.map(|flow| {
        let backend = flow.backend.as_ref();
        (
            flow.first_ns,
            backend.and_then(|backend| backend.pod.clone()),
        )
    });
    let mut seen: Vec<_> = named.collect();
    seen.sort();
    let first = seen.first().context("no calls")?;
    ensure!(first.1 == Some(changes[0].expected.clone()), "{first:?}");
    judge(&changes, &seen)?;
    lab.down()
}
