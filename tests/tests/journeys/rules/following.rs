//! Endpoints that are switched while tracing: the next connection has the new names, and one that was
//! open before keeps those of its own time.

use std::io::Write as _;
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab, Proxy};
use tracer_tests::trace::json::{Flow, Kind, State, Step, Trace};
use tracer_tests::trace::process::{self, Running};

const SERVICE: &str = "web-node1";

fn following(proxy: Proxy) -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config {
        proxy,
        ..Config::default()
    })?;
    let address = lab.service(SERVICE).cluster_ip;
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let open = Open::to(&lab, address)?;
    wait_for_calls(&watch, &address.to_string(), 1)?;
    lab.switch(SERVICE, &["b2"])?;
    let mut curl = lab.command("a1", "curl");
    let url = format!("http://{address}/");
    let answer = lab.run(curl.args(["--silent", "--max-time", "30", &url]))?;
    ensure!(answer.contains("b2"), "{answer}");
    // Rules that are replaced at once may never be read.
    let endpoint = lab.pod("b2").ipv4.to_string();
    let mut calls = 2;
    process::wait_until(|| {
        wait_for_calls(&watch, &address.to_string(), calls)?;
        let output = watch.output();
        let packet = |line: &&str| line.contains("\"rule\":[") && line.contains(&endpoint);
        if output.lines().any(|line| packet(&line)) {
            return Ok(None);
        }
        let mut curl = lab.command("a1", "curl");
        lab.run(curl.args(["--silent", "--max-time", "30", &url]))?;
        calls += 1;
        Ok(Some("no call was shown with the new rules".to_owned()))
    })?;
    open.end()?;
    lab.switch(SERVICE, &[])?;
    let mut curl = lab.command("a1", "curl");
    let refused = curl.args(["--silent", "--max-time", "30", &url]).output()?;
    ensure!(refused.status.code() == Some(7), "{refused:?}");
    let trace = watch.stop()?;
    let called = |flow: &&Flow| flow.destination.addr.ip() == address;
    let flows: Vec<&Flow> = trace.flows.iter().filter(called).collect();
    let name = Some(lab.service(SERVICE).full_name());
    ensure!(flows.len() > calls, "{flows:#?}");
    for flow in &flows {
        ensure!(flow.destination.service == name, "{flow:#?}");
    }
    let [one, other] = ["b1", "b2"].map(|pod| to_pod(&lab, &flows, pod));
    let (one, other) = (one?, other?);
    ensure!(one != other, "one rule for two endpoints: {one:#?}");
    refusal(&trace, &flows)?;
    lab.down()
}

/// The rules of the flow to that pod.
fn to_pod(lab: &Lab, flows: &[&Flow], name: &str) -> anyhow::Result<Vec<Step>> {
    let pod = lab.pod(name);
    let to = |flow: &&&Flow| {
        let backend = flow.backend.as_ref();
        backend.is_some_and(|backend| backend.pod == Some(pod.full_name()))
    };
    let flow = flows.iter().find(to);
    let flow = flow.with_context(|| format!("no flow to {name}: {flows:#?}"))?;
    let mut made = flow.translations.iter();
    let dnat = made
        .find(|made| made.kind == Kind::Dnat)
        .context("no DNAT")?;
    let info = dnat.rule_info.as_ref();
    let info = info.with_context(|| format!("no rule: {dnat:#?}"))?;
    ensure!(info.certain, "{dnat:#?}");
    let endpoint = info.endpoint.context("no endpoint")?;
    ensure!((endpoint.index, endpoint.of) == (1, 1), "{dnat:#?}");
    let rule = dnat.rule.clone().context("no rule")?;
    let last = rule.last().context("no steps")?;
    ensure!(last.text.contains(&pod.ipv4.to_string()), "{last:#?}");
    Ok(rule)
}

/// Without endpoints, the call is rejected by a rule that says so.
fn refusal(trace: &Trace, flows: &[&Flow]) -> anyhow::Result<()> {
    let refused = flows.iter().find(|flow| flow.state == State::Refused);
    let refused = refused.with_context(|| format!("none was refused: {flows:#?}"))?;
    let packets = trace.packets_of(refused);
    let drop = packets.iter().find_map(|packet| packet.drop.as_ref());
    let drop = drop.context("no drop")?;
    let rule = drop.rule.as_ref();
    let last = rule.and_then(|rule| rule.last());
    let last = last.with_context(|| format!("no rule: {drop:#?}"))?;
    ensure!(last.text.to_lowercase().contains("reject"), "{last:#?}");
    let info = drop.rule_info.as_ref().context("no rule_info")?;
    ensure!(info.service == refused.destination.service, "{drop:#?}");
    Ok(())
}

/// Waits until the first packets of so many connections are shown, for which the rules were read.
fn wait_for_calls(watch: &Running, address: &str, calls: usize) -> anyhow::Result<()> {
    process::wait_until(|| {
        let output = watch.output();
        let first = |line: &&str| line.contains(address) && line.contains("\"flags\":\"S\"");
        let shown = output.lines().filter(first).count();
        Ok((shown < calls).then(|| format!("{shown} calls were shown, not {calls}")))
    })
}

/// A connection that stays open until it is told.
struct Open(Child);

impl Open {
    fn to(lab: &Lab, address: std::net::Ipv4Addr) -> anyhow::Result<Self> {
        let script = format!(
            "exec 3<>/dev/tcp/{address}/80 && read && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        );
        let mut bash = lab.command("a1", "bash");
        let bash = bash.args(["-c", &script]).stdin(Stdio::piped());
        Ok(Self(bash.stdout(Stdio::piped()).spawn()?))
    }

    /// Asks, and reads the answer to its end.
    fn end(mut self) -> anyhow::Result<()> {
        let mut input = self.0.stdin.take().context("no input")?;
        input.write_all(b"\n")?;
        let output = self.0.wait_with_output()?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(answer.contains("b1"), "{}: {answer}", output.status);
        Ok(())
    }
}

#[test]
fn iptables_nft() -> anyhow::Result<()> {
    following(Proxy::IptablesNft)
}

#[test]
fn iptables_legacy() -> anyhow::Result<()> {
    following(Proxy::IptablesLegacy)
}

#[test]
fn nftables() -> anyhow::Result<()> {
    following(Proxy::Nftables)
}
