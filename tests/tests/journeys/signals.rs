//! The signals that ask for the end: at every stage of the start, while nobody takes what is printed, and those
//! that whoever started the tracer has it ignore.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{Ended, LIMIT, Running, command, wait_until};
use tracer_tests::trace::processor_time::seconds_of;
use tracer_tests::trace::remains;

use super::flood::Exchange;
use super::noise::Noise;

/// The server's port.
const FLOODED: u16 = 29_720;
/// Seconds of a processor's time after which it has been busy for a while.
const BUSY: f64 = 0.2;
/// The least that a pipe holds.
const ROOM: usize = 4096;

/// How far a tracer is that starts.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It is the tracer, and no other program any more.
    Begun,
    /// It reads the node.
    Reading,
    /// It has something in the kernel of this kind, as `/proc/PID/fdinfo` says.
    Has(&'static str),
}

const STAGES: [Stage; 5] = [
    Stage::Begun,
    Stage::Reading,
    Stage::Has("map_id:"),
    Stage::Has("prog_id:"),
    Stage::Has("link_id:"),
];

impl Stage {
    fn is_reached(self, pid: Pid) -> bool {
        let process = format!("/proc/{}", pid.as_raw_nonzero());
        let any = |directory: &str, file: &str, holds: &dyn Fn(&str) -> bool| {
            let entries = fs::read_dir(format!("{process}/{directory}")).into_iter();
            let mut entries = entries.flatten().flatten();
            entries.any(|entry| {
                let path = entry.path().join(file);
                let path = if file.is_empty() { entry.path() } else { path };
                fs::read_to_string(path).is_ok_and(|text| holds(&text))
            })
        };
        match self {
            // What it takes over first of all, one after the other.
            Self::Begun => [Signal::INT, Signal::TERM]
                .into_iter()
                .all(|signal| has(&process, "SigCgt:", signal).unwrap_or(false)),
            Self::Reading => any("task", "comm", &|name| name == "rules\n"),
            Self::Has(kind) => any("fdinfo", "", &|text| text.contains(kind)),
        }
    }
}

/// Whether a signal is in that set of a process.
fn has(process: &str, set: &str, signal: Signal) -> anyhow::Result<bool> {
    let status = fs::read_to_string(format!("{process}/status"))?;
    let set = status.lines().find_map(|line| line.strip_prefix(set));
    let set = u64::from_str_radix(set.context("no such set")?.trim(), 16)?;
    Ok(set & (1 << (signal.as_raw() - 1)) != 0)
}

/// The tracer as a shell's script starts it that has it ignore the signals: `sh` becomes the tracer.
fn ignoring(signals: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let tracer = command(arguments)?;
    let mut command = Command::new("sh");
    let script = format!("trap '' {signals}; exec \"$@\"");
    command
        .args(["-c", &script, "sh"])
        .arg(tracer.get_program());
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Starts it and asks for the end as soon as that stage is reached.
fn ended_at(stage: Stage, signal: Signal, arguments: &[&str]) -> anyhow::Result<Ended> {
    let mut command = ignoring("INT TERM", arguments)?;
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(running.spawn().context("cannot run sh")?);
    let pid = Pid::from_child(&child.0);
    let limit = Instant::now() + LIMIT;
    while !stage.is_reached(pid) {
        ensure!(child.0.try_wait()?.is_none(), "it ended by itself");
        ensure!(Instant::now() < limit, "{stage:?} is never reached");
        thread::yield_now();
    }
    kill_process(pid, signal)?;
    // What it prints is little: no pipe has to be read meanwhile.
    while child.0.try_wait()?.is_none() {
        ensure!(Instant::now() < limit, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
    wait_until(|| {
        let cgroups = remains::cgroups_of(pid)?;
        Ok((!cgroups.is_empty()).then(|| format!("left over: {cgroups:?}")))
    })?;
    let read = |from: Option<&mut dyn std::io::Read>| -> anyhow::Result<String> {
        let mut text = String::new();
        from.context("no pipe")?.read_to_string(&mut text)?;
        Ok(text)
    };
    Ok(Ended {
        status: child.0.wait()?,
        stdout: read(child.0.stdout.as_mut().map(|pipe| pipe as _))?,
        stderr: read(child.0.stderr.as_mut().map(|pipe| pipe as _))?,
    })
}

/// Killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Also where it was told to ignore them, as a shell's script does with what it starts in the background.
#[test]
fn a_tracer_that_starts_ends_when_it_is_asked_to() -> anyhow::Result<()> {
    needs_a_lab!();
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("x.rec");
    let recording = recording.to_str().context("no path")?;
    let marker = directory.path().join("ran");
    let touched = marker.to_str().context("no path")?;
    let ways: [&[&str]; 3] = [
        &["watch", "--json", "host 192.0.2.1"],
        &["record", "--overwrite", "-o", recording, "host 192.0.2.1"],
        &["run", "--json", "--", "touch", touched],
    ];
    let before = remains::orphans()?;
    let mut in_time = 0;
    for way in ways {
        for stage in STAGES {
            let signal = if matches!(stage, Stage::Has(_)) {
                Signal::INT
            } else {
                Signal::TERM
            };
            let ended =
                ended_at(stage, signal, way).with_context(|| format!("{way:?} {stage:?}"))?;
            // If it was ready sooner than this test, it reports.
            if ended.stdout.is_empty() && !ended.stderr.contains("recording") {
                let status = ended.status.code();
                ensure!(status == Some(128 + signal.as_raw()), "{ended:#?}");
                ensure!(!marker.exists(), "the command ran: {ended:#?}");
                in_time += 1;
            }
            let _ = fs::remove_file(&marker);
        }
    }
    // On a machine that holds this test up for that long each time nothing is tested.
    ensure!(in_time > 0, "no signal came while it started");
    wait_until(|| {
        let left: Vec<_> = remains::orphans()?.difference(&before).copied().collect();
        Ok((!left.is_empty()).then(|| format!("BPF objects that nobody holds: {left:?}")))
    })
}

/// What `nohup` is for.
#[test]
fn a_hangup_that_is_ignored_stays_so() -> anyhow::Result<()> {
    needs_a_lab!();
    let arguments = ["watch", "--json", "host 192.0.2.1"];
    let mut watch = Running::start(ignoring("HUP", &arguments)?)?;
    watch.wait_for("tracer: watching")?;
    let process = format!("/proc/{}", watch.pid().as_raw_nonzero());
    ensure!(has(&process, "SigIgn:", Signal::HUP)?);
    watch.signal(Signal::HUP)?;
    let ended = watch.interrupt()?;
    ensure!(ended.status.success(), "{ended:#?}");
    ensure!(!ended.trace()?.stats.is_empty(), "{ended:#?}");
    Ok(())
}

/// As a pager that waits for a key: what is printed is not taken, and the tracer waits.
#[test]
fn a_reader_that_takes_nothing_does_not_keep_it_from_ending() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let filter = format!("netns {}", lab.netns("a1"));
    let mut command = command(["watch", "--packets", &filter])?;
    let (mut reader, writer) = std::io::pipe()?;
    fcntl_setpipe_size(&writer, ROOM)?;
    let mut child = Killed(command.stdout(writer).spawn()?);
    drop(command);
    let url = format!("http://{}/", lab.service("web").cluster_ip);
    let noise = Noise::start(&lab, "a1", &url)?;
    wait_until(|| {
        let waiting = ioctl_fionread(&reader)?;
        Ok((waiting == 0).then(|| "nothing was printed".to_owned()))
    })?;
    // One more: it wants to print more than there is room for.
    noise.wait_for_one()?;
    kill_process(Pid::from_child(&child.0), Signal::INT)?;
    let limit = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if Instant::now() > limit {
            bail!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{status}");
    drop(noise);
    // Cut off wherever there was no room, within a character too.
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed)?;
    let printed = String::from_utf8_lossy(&printed);
    ensure!(printed.starts_with("flow "), "{printed}");
    lab.down()
}

/// Where records come faster than they can be taken there is never a moment of rest.
#[test]
fn traffic_without_a_pause_does_not_keep_it_from_ending() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let exchange = Exchange::new(&lab, FLOODED)?;
    let over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let flood = || -> anyhow::Result<()> {
            while !over.load(Ordering::Relaxed) {
                exchange.send(1000)?;
            }
            Ok(())
        };
        let flooding = [scope.spawn(flood), scope.spawn(flood)];
        let watched = || -> anyhow::Result<Ended> {
            let filter = format!("udp port {FLOODED}");
            let mut watch = Running::start(command(["watch", "--summary", &filter])?)?;
            watch.wait_for("tracer: watching")?;
            let stat = format!("/proc/{}/stat", watch.pid().as_raw_nonzero());
            let used = || seconds_of(Path::new(&stat));
            let begin = used()?;
            wait_until(|| {
                let busy = used()? > begin + BUSY;
                Ok((!busy).then(|| "it has nothing to do".to_owned()))
            })?;
            watch.interrupt()
        };
        let ended = watched();
        over.store(true, Ordering::Relaxed);
        for flooding in flooding {
            flooding.join().ok().context("a panic")??;
        }
        ended
    })?;
    ensure!(ended.status.success(), "{ended:#?}");
    lab.down()
}
