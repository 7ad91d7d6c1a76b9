//! After SIGKILL nothing of the tracer remains, and it has changed nothing.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{Running, command, wait_until, whole_lab};
use tracer_tests::trace::remains::{self, Objects};

use super::noise::Noise;

/// At least so many programs and links has a tracer: devices, drops, netfilter, and a link for each
/// hook of each node.
const PROGRAMS: usize = 6;
const LINKS: usize = 10;

/// What must be the same before and after.
#[derive(PartialEq, Eq)]
struct State {
    fingerprints: Vec<String>,
    /// Named network namespaces, without those of other labs.
    namespaces: BTreeSet<String>,
    orphans: Objects,
}

impl State {
    fn of(lab: &Lab) -> anyhow::Result<Self> {
        let places = ["node1", "node2", "a1", "b1", "outside"];
        let fingerprints = places.iter().map(|name| lab.fingerprint(name));
        let own = format!("{}-", lab.id());
        let names = fs::read_dir("/run/netns")?.flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(Self {
            fingerprints: fingerprints.collect::<anyhow::Result<_>>()?,
            namespaces: names
                .filter(|name| name.starts_with(&own) || !name.starts_with("tl"))
                .collect(),
            orphans: remains::orphans()?,
        })
    }

    /// What is different from `before`, if anything is.
    fn differs_from(&self, before: &Self) -> Option<String> {
        let left: Vec<_> = self.orphans.difference(&before.orphans).collect();
        if self.fingerprints != before.fingerprints {
            let pairs = before.fingerprints.iter().zip(&self.fingerprints);
            let pair = pairs.into_iter().find(|(before, after)| before != after);
            Some(format!("rules or settings are not as before: {pair:#?}"))
        } else if self.namespaces != before.namespaces {
            Some(format!("namespaces: {:?}", self.namespaces))
        } else if !left.is_empty() {
            Some(format!("BPF objects that nobody holds: {left:?}"))
        } else {
            None
        }
    }
}

/// What is there of a tracer while it runs.
struct Tracer {
    pid: Pid,
    objects: Objects,
    guardians: Vec<Pid>,
}

impl Tracer {
    fn of(running: &Running) -> anyhow::Result<Self> {
        let pid = running.pid();
        // Links come and go with the namespaces of other labs: what is there in both is.
        let (held, all) = (remains::objects_of(pid)?, remains::objects()?);
        let objects: Objects = held.intersection(&all).copied().collect();
        let count = |wanted| objects.iter().filter(|(kind, _)| *kind == wanted).count();
        ensure!(
            count("prog") >= PROGRAMS && count("link") >= LINKS && count("map") > 0,
            "{held:?}, and bpftool lists {objects:?} of these"
        );
        Ok(Self {
            pid,
            objects,
            guardians: remains::children(pid, "trace-guardian")?,
        })
    }

    /// What remains of it, if anything does.
    fn remains(&self) -> anyhow::Result<Option<String>> {
        let all = remains::objects()?;
        let objects: Vec<_> = self.objects.intersection(&all).collect();
        let cgroups = remains::cgroups_of(self.pid)?;
        let mut guardians = self.guardians.clone();
        guardians.retain(|pid| remains::runs(*pid));
        let nothing = objects.is_empty() && cgroups.is_empty() && guardians.is_empty();
        Ok((!nothing).then(|| format!("left over: {objects:?}, {cgroups:?}, {guardians:?}")))
    }
}

#[test]
fn nothing_remains_of_a_killed_run() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let before = State::of(&lab)?;
    let script = "echo \"pid $$\"; while curl -sS --max-time 30 \"$0\"; do sleep 0.01; done";
    let url = format!("http://{}/", lab.service("web").cluster_ip);
    let mut command = command(["run", "--netns", &lab.netns("a1"), "--json", "--", "sh"])?;
    command.args(["-c", script, &url]);
    let mut running = Running::start(command)?;
    let traced = running.wait_for("pid ")?;
    let traced: i32 = traced.trim_start_matches("pid ").parse()?;
    let traced = Pid::from_raw(traced).context("no pid")?;
    running.wait_for("server: ")?;

    let tracer = Tracer::of(&running)?;
    ensure!(tracer.guardians.len() == 1, "{:?}", tracer.guardians);
    let cgroups = remains::cgroups_of(tracer.pid)?;
    ensure!(cgroups.len() == 1, "{cgroups:?}");
    untouched(&lab, &before)?;
    running.signal(Signal::KILL)?;
    wait_until(|| tracer.remains())?;
    wait_until(|| Ok(State::of(&lab)?.differs_from(&before)))?;

    // What was traced is no property of the tracer: it goes on, in the cgroup that it came from.
    ensure!(remains::runs(traced), "the traced command is gone too");
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let of_traced = fs::read_to_string(format!("/proc/{}/cgroup", traced.as_raw_nonzero()))?;
    ensure!(of_traced == own, "{of_traced}");
    kill_process(traced, Signal::KILL)?;
    let ended = running.wait()?;
    ensure!(!ended.status.success());
    lab.down()
}

#[test]
fn nothing_remains_of_a_killed_watch() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let before = State::of(&lab)?;
    let running = Running::watch(["--json", &whole_lab(&lab)])?;
    let noise = Noise::start(
        &lab,
        "a1",
        &format!("http://{}/", lab.service("web").cluster_ip),
    )?;
    noise.wait_for_one()?;
    let tracer = Tracer::of(&running)?;
    untouched(&lab, &before)?;
    noise.wait_for_one()?;
    running.signal(Signal::KILL)?;
    wait_until(|| tracer.remains())?;
    noise.wait_for_one()?;
    drop(noise);
    wait_until(|| Ok(State::of(&lab)?.differs_from(&before)))?;
    ensure!(!running.wait()?.status.success());
    lab.down()
}

/// A tracer that runs has changed nothing either.
fn untouched(lab: &Lab, before: &State) -> anyhow::Result<()> {
    let now = State::of(lab)?;
    ensure!(
        now.fingerprints == before.fingerprints && now.namespaces == before.namespaces,
        "{:?}",
        now.differs_from(before)
    );
    Ok(())
}
