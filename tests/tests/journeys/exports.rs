//! A recording as files of other programs: each is read by such a program, or by what is strict
//! about its format, and must say what the recording says.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::{Trace, Verdict};
use tracer_tests::trace::process::{Ended, command, run};
use tracer_tests::trace::recording::Recording;

/// A recording of a call that a Service's endpoint answers, and of one that nobody does.
struct Calls {
    recording: Recording,
    directory: tempfile::TempDir,
    lab: Lab,
}

impl Calls {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::up(&Config::default())?;
        let calls = Self {
            recording: Recording::new()?,
            directory: tempfile::tempdir()?,
            lab,
        };
        let address = |service| calls.lab.service(service).cluster_ip;
        let script = format!(
            "curl -sS -o /dev/null http://{}/ && ! curl -sS -m 5 http://{}/ 2> /dev/null",
            address("web-node1"),
            address("ghost")
        );
        let mut arguments: Vec<OsString> = vec!["run".into()];
        arguments.extend(calls.recording.arguments());
        arguments.push("--netns".into());
        arguments.push(calls.lab.netns("a1").into());
        arguments.extend(["--", "sh", "-c", &script].map(OsString::from));
        let ended = run(arguments)?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(calls)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `tracer export` of it, with those arguments.
    fn export(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        let mut command = command(["export"])?;
        command.arg(self.recording.path()).args(arguments);
        command.output()?.try_into()
    }

    /// What `tracer replay --json` says.
    fn replayed(&self) -> anyhow::Result<(String, Trace)> {
        let mut command = command(["replay", "--json"])?;
        let ended: Ended = command.arg(self.recording.path()).output()?.try_into()?;
        let trace = ended.trace()?;
        Ok((ended.stdout, trace))
    }

    fn end(self) -> anyhow::Result<()> {
        self.lab.down()
    }
}

#[test]
fn json_is_that_of_replay_and_a_file_is_not_replaced() -> anyhow::Result<()> {
    needs_a_lab!();
    let calls = Calls::new()?;
    let (text, _) = calls.replayed()?;
    let ended = calls.export(&["--to", "json"])?;
    ensure!(ended.status.success() && ended.stdout == text, "{ended:?}");

    let file = calls.file("out");
    let path = file.to_str().context("not UTF-8")?;
    let written = calls.export(&["--to", "json", "-o", path])?;
    ensure!(written.status.success(), "{}", written.stderr);
    ensure!(std::fs::read_to_string(&file)? == text);
    let refused = calls.export(&["--to", "json", "-o", path])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("--overwrite"));
    let replaced = calls.export(&["--to", "csv", "-o", path, "--overwrite"])?;
    ensure!(replaced.status.success(), "{}", replaced.stderr);
    ensure!(std::fs::read_to_string(&file)?.starts_with("flow,"));

    let own = calls.recording.path();
    let own = own.to_str().context("not UTF-8")?;
    let refused = calls.export(&["--to", "json", "-o", own, "--overwrite"])?;
    ensure!(
        refused.stderr.contains("the recording itself"),
        "{refused:?}"
    );
    ensure!(calls.replayed()?.0 == text);
    let refused = calls.export(&["--to", "json", "--rows", "hops"])?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    calls.end()
}

#[test]
fn a_table_has_a_row_for_each() -> anyhow::Result<()> {
    needs_a_lab!();
    let calls = Calls::new()?;
    let (_, trace) = calls.replayed()?;
    let hops: usize = trace.packets.iter().map(|packet| packet.hops.len()).sum();
    for (rows, count) in [
        ("flows", trace.flows.len()),
        ("packets", trace.packets.len()),
        ("hops", hops),
    ] {
        let ended = calls.export(&["--to", "csv", "--rows", rows])?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        let mut reader = csv::Reader::from_reader(ended.stdout.as_bytes());
        let records = reader.records().collect::<Result<Vec<_>, _>>()?;
        ensure!(records.len() == count, "{rows}: {}", records.len());
    }
    let ended = calls.export(&["--to", "csv", "--rows", "packets"])?;
    let mut reader = csv::Reader::from_reader(ended.stdout.as_bytes());
    let at = reader
        .headers()?
        .iter()
        .position(|name| name == "drop_reason");
    let at = at.context("no such column")?;
    let dropped = reader.records().flatten().filter(|row| !row[at].is_empty());
    let drops = trace
        .packets
        .iter()
        .filter(|packet| packet.verdict == Verdict::Dropped);
    let drops = drops.count();
    ensure!(drops > 0 && dropped.count() == drops, "{}", ended.stdout);
    calls.end()
}
