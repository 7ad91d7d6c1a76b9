//! Recordings that end otherwise than by Ctrl-C: killed, on a full disk, by size and time, and in
//! parts. That a recording says what was shown live is checked with everything that is traced
//! (`tracer_tests::trace::recording`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{Ended, Running, command, executable, wait_until, whole_lab};
use tracer_tests::trace::recording::{Recording, replay};

use super::noise::Noise;

/// A node where something is always going on.
struct Busy {
    noise: Noise,
    lab: Lab,
}

impl Busy {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::up(&Config::default())?;
        let url = format!("http://{}/", lab.service("web").cluster_ip);
        let noise = Noise::start(&lab, "a1", &url)?;
        noise.wait_for_one()?;
        Ok(Self { noise, lab })
    }

    /// `tracer record` of all of it.
    fn record(&self, file: &Path, options: &[&str]) -> anyhow::Result<Running> {
        let mut command = command(["record", "-o"])?;
        command.arg(file).args(options).arg(whole_lab(&self.lab));
        let mut running = Running::start(command)?;
        running.wait_for("tracer: recording")?;
        Ok(running)
    }

    /// A size for parts that have room for more than what the node knows, which grows with all that
    /// there is on this machine.
    fn part_size(&self, file: &Path) -> anyhow::Result<String> {
        let file = file.with_extension("begin");
        let ended = self.record(&file, &["--duration", "1s"])?.wait()?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        let length = size(&file);
        fs::remove_file(&file)?;
        Ok(format!("{}K", length * 3 / 2048 + 16))
    }

    fn end(self) -> anyhow::Result<()> {
        drop(self.noise);
        self.lab.down()
    }
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn grows_beyond(file: &Path, length: u64) -> anyhow::Result<()> {
    wait_until(|| {
        let size = size(file);
        Ok((size <= length).then(|| format!("{} has {size} bytes", file.display())))
    })
}

/// What a recording shows, as JSON.
fn shown(file: &Path) -> anyhow::Result<Ended> {
    let ended = replay(file, &["--json"])?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    Ok(ended)
}

/// How many events a recording has, as the last line says.
fn events(said: &str) -> anyhow::Result<u64> {
    let line = said.lines().last().context("nothing is said")?;
    let (before, _) = line.split_once(" events").context(line.to_owned())?;
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().with_context(|| line.to_owned())
}

#[test]
fn a_killed_recording_shows_what_was_written() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    for chunks in 0..4 {
        let file = recording.path().with_extension(chunks.to_string());
        let running = busy.record(&file, &[])?;
        // With the first chunk of events it is longer than with what the node knew alone.
        let begin = size(&file);
        for _ in 0..chunks {
            grows_beyond(&file, size(&file).max(begin))?;
        }
        running.signal(Signal::KILL)?;
        ensure!(!running.wait()?.status.success());
        let ended = replay(&file, &["--json"])?;
        let missing = ended.stderr.contains("its end is missing");
        ensure!(missing, "{}", ended.stderr);
        if chunks > 1 {
            let trace = ended.trace()?;
            ensure!(!trace.flows.is_empty() && !trace.packets.is_empty());
        }
    }
    busy.end()
}

#[test]
fn a_full_disk_ends_a_recording_well() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    let disk = tempfile::tempdir()?;
    // A disk of the tracer's own, in a mount namespace that goes with it.
    let script = "mount -t tmpfs -o size=128k none \"$1\" || exit 99
                  \"$2\" record -o \"$1/full\" \"$4\"
                  status=$?
                  umask 077
                  cp \"$1/full\" \"$3\"
                  exit $status";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", script, "sh"]);
    unshare.arg(disk.path()).arg(executable()?);
    unshare.arg(recording.path()).arg(whole_lab(&busy.lab));
    let ended = Running::start(unshare)?.wait()?;
    ensure!(ended.status.code() == Some(1), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("the recording ended early"),
        "{}",
        ended.stderr
    );
    ensure!(ended.stderr.contains("No space left"), "{}", ended.stderr);
    let trace = replay(&recording.path(), &["--json"])?.trace()?;
    ensure!(!trace.flows.is_empty());
    busy.end()
}

#[test]
fn a_rotation_keeps_the_newest_parts() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    let file = recording.path();
    let part = |number: u32| -> PathBuf { file.with_extension(format!("{number:06}")) };
    let size = busy.part_size(&file)?;
    let running = busy.record(&file, &["--rotate", &size, "--keep", "3"])?;
    wait_until(|| Ok((!part(5).exists()).then(|| "no sixth part".to_owned())))?;
    let ended = running.interrupt()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let directory = file.parent().context("no directory")?;
    let names: BTreeSet<String> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ensure!(names.len() == 3, "{names:?}");
    // Each can be read alone, the last one also when no more came.
    for name in names.iter().take(2) {
        let trace = shown(&directory.join(name))?.trace()?;
        ensure!(!trace.flows.is_empty(), "{name}");
    }

    // Another recording goes on with the numbers, and removes what is too old.
    let running = busy.record(&file, &["--rotate", &size, "--keep", "2"])?;
    let newest = names.last().context("no part")?.clone();
    let left = |name: &str| directory.join(name).exists();
    ensure!(left(&newest) && !names.first().is_some_and(|name| left(name)));
    ensure!(running.interrupt()?.status.success());
    busy.end()
}

#[test]
fn the_parts_of_a_rotation_are_one_timeline() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    let file = recording.path();
    let part = |number: u32| -> PathBuf { file.with_extension(format!("{number:06}")) };
    let size = busy.part_size(&file)?;
    let running = busy.record(&file, &["--rotate", &size, "--keep", "1000"])?;
    wait_until(|| Ok((!part(3).exists()).then(|| "no fourth part".to_owned())))?;
    ensure!(running.interrupt()?.status.success());
    let together = |parts: &[u32], rest: &[&str]| -> anyhow::Result<Ended> {
        let mut command = command(["replay", "--json"])?;
        command
            .args(parts.iter().map(|number| part(*number)))
            .args(rest);
        command.output()?.try_into()
    };
    let whole = together(&[0, 1, 2, 3], &[])?;
    ensure!(whole.status.success(), "{}", whole.stderr);
    ensure!(whole.stderr.contains("4 recordings"), "{}", whole.stderr);
    ensure!(!whole.stderr.contains("missing"), "{}", whole.stderr);
    // The order in which they are given is the same.
    ensure!(together(&[2, 0, 3, 1], &[])?.stdout == whole.stdout);
    let trace = whole.trace()?;
    // On a machine that is too busy for a ring of this size, something is missing indeed.
    let lossy = trace.flows.iter().any(|flow| flow.affected_by_loss);
    ensure!(!lossy || trace.totals()?.lost > 0, "{:?}", trace.totals());

    // A flow of which two parts have packets is one, and its packets are all there.
    let (mut flows, mut packets) = (0, 0);
    for number in 0..4 {
        let alone = together(&[number], &[])?.trace()?;
        flows += alone.flows.len();
        packets += alone.packets.len();
    }
    ensure!(trace.flows.len() <= flows && trace.flows.len() > 1);
    ensure!(trace.packets.len() <= packets && trace.packets.len() > 1);

    // What is not given is missing, and said.
    let gap = together(&[0, 1, 3], &[])?;
    ensure!(
        gap.stderr.contains("something is missing"),
        "{}",
        gap.stderr
    );
    let twice = together(&[1, 1], &[])?;
    ensure!(twice.status.code() == Some(2), "{}", twice.stderr);
    let one = trace.flows.first().context("no flow")?;
    let filter = format!("port {}", one.client.addr.port());
    let some = together(&[3, 2, 1, 0], &[&filter])?.trace()?;
    ensure!(!some.flows.is_empty() && some.flows.len() < trace.flows.len());
    busy.end()
}

#[test]
fn a_recording_ends_by_size_and_by_time() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    let file = recording.path();
    let ended = busy.record(&file, &["--max-size", "20K"])?.wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    ensure!(size(&file) >= 20 << 10, "{}", size(&file));
    ensure!(!shown(&file)?.trace()?.flows.is_empty());

    let refused = command(["record", "-o"])?.arg(&file).output()?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(
        refused.status.code() == Some(1) && said.contains("--overwrite"),
        "{said}"
    );
    let ended = busy
        .record(&file, &["--overwrite", "--duration", "1s"])?
        .wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    ensure!(ended.stderr.contains(" flows, "), "{}", ended.stderr);
    let (recorded, shown) = (ended.stderr, shown(&file)?.stderr);
    let counted = events(&recorded)?;
    ensure!(
        counted > 0 && counted == events(&shown)?,
        "{recorded}{shown}"
    );
    busy.end()
}

#[test]
fn parts_of_a_recordings_time_are_shown() -> anyhow::Result<()> {
    needs_a_lab!();
    let busy = Busy::new()?;
    let recording = Recording::new()?;
    let file = recording.path();
    let ended = busy.record(&file, &["--duration", "3s"])?.wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let whole = shown(&file)?.trace()?;
    let all: BTreeSet<u64> = whole.flows.iter().map(|flow| flow.first_ns).collect();
    let part = replay(&file, &["--json", "--from", "+1s", "--to", "+2s"])?.trace()?;
    let some: BTreeSet<u64> = part.flows.iter().map(|flow| flow.first_ns).collect();
    ensure!(!some.is_empty() && some.len() < all.len() && some.is_subset(&all));
    let one = whole.flows.get(whole.flows.len() / 2).context("no flow")?;
    let filter = format!("port {}", one.client.addr.port());
    let other = command(["replay", "--json"])?
        .arg(&file)
        .arg(filter)
        .output()?;
    let other = Ended::try_from(other)?.trace()?;
    ensure!(
        other
            .flows
            .iter()
            .any(|flow| flow.client.addr == one.client.addr)
    );
    ensure!(other.flows.len() < all.len());
    busy.end()
}
