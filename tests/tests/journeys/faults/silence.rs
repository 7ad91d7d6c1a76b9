//! Flows that nobody answers are shown while they wait.

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, HTTP_PORT, Lab};
use tracer_tests::trace::json::{Flow, Trace};
use tracer_tests::trace::process::{Running, wait_until, whole_lab};

use super::{Expected, is_diagnosed};

/// Flows that have been written so far as ones that go on.
fn ongoing(watch: &Running) -> anyhow::Result<Vec<Flow>> {
    let output = watch.output();
    Ok(Trace::read(output.lines())?.ongoing)
}

#[test]
fn a_flow_that_nobody_answers_is_shown_while_it_waits() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let (pod, other) = (lab.pod("b1").ipv4, lab.pod("b2").ipv4);
    let rule = lab.drop_forward("node1", pod.into(), HTTP_PORT)?;
    let rest = lab.drop_forward("node1", other.into(), HTTP_PORT)?;
    let watch = Running::watch(["--json", &whole_lab(&lab)])?;
    let call = |pod, seconds: &str| {
        let url = format!("http://{pod}:{HTTP_PORT}/");
        let arguments = ["-sS", "--max-time", seconds, &url];
        lab.command("a1", "curl").args(arguments).spawn()
    };
    let (mut patient, mut hasty) = (call(pod, "60")?, call(other, "6")?);
    wait_until(|| {
        let shown = ongoing(&watch)?.len();
        Ok((shown < 2).then(|| format!("{shown} flows are shown")))
    })?;
    ensure!(patient.try_wait()?.is_none(), "it is shown after its end");
    // One gives up, and the other is let through.
    ensure!(!hasty.wait()?.success());
    rule.remove()?;
    ensure!(patient.wait()?.success());
    let trace = watch.stop()?;
    rest.remove()?;
    let expected = Expected {
        layer: "filter",
        cause: "dropped-by-rule",
        culprit: "filter FORWARD rule",
        said: &["node1", "SYN"],
    };
    for address in [pod, other] {
        let to = |flow: &&Flow| flow.destination.addr.ip() == address;
        let early: Vec<&Flow> = trace.ongoing.iter().filter(to).collect();
        let [early] = early[..] else {
            anyhow::bail!("{early:#?}");
        };
        is_diagnosed(early, &expected)?;
        let last: Vec<&Flow> = trace.flows.iter().filter(to).collect();
        ensure!(last.len() == 1 && last[0].id == early.id, "{last:#?}");
        // It is written again if anything came since: what is let through, or one more SYN.
        let more = last[0].packets.original > early.packets.original;
        ensure!(last[0].ongoing != more, "{last:#?}");
        ensure!(more || address == other, "{last:#?}");
    }
    lab.down().context("down")
}
