//! A recording as files of other programs: each is read by such a program, or by what is strict
//! about its format, and must say what the recording says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::{Trace, Verdict};
use tracer_tests::trace::process::{Ended, Running, command, run, whole_lab};
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

/// What tshark says of a capture's packets: a line for each, of those fields.
fn dissected(capture: &Path, filter: &str, fields: &[&str]) -> anyhow::Result<Vec<Vec<String>>> {
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(capture)
        .args([
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
        ])
        .args(["-T", "fields", "-Y", filter]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let ended: Ended = tshark.output()?.try_into()?;
    ensure!(ended.status.success(), "tshark: {}", ended.stderr);
    let lines = ended.stdout.lines();
    Ok(lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}

#[test]
fn wireshark_reads_a_capture_of_every_hop() -> anyhow::Result<()> {
    needs_a_lab!();
    let calls = Calls::new()?;
    let file = calls.file("capture.pcapng");
    let ended = calls.export(&["--to", "pcapng", "-o", file.to_str().context("not UTF-8")?])?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let (_, trace) = calls.replayed()?;
    let hops: usize = trace.packets.iter().map(|packet| packet.hops.len()).sum();

    let infos: Ended = Command::new("capinfos")
        .arg("-M")
        .arg(&file)
        .output()?
        .try_into()?;
    ensure!(infos.status.success(), "{}", infos.stderr);
    let count = format!("Number of packets:   {hops}");
    for said in [count.as_str(), "Strict time order:   True", "nanoseconds"] {
        ensure!(infos.stdout.contains(said), "{said}: {}", infos.stdout);
    }
    let every = dissected(&file, "ip", &["frame.interface_name"])?;
    ensure!(every.len() == hops, "{} of {hops}", every.len());
    ensure!(dissected(&file, "_ws.malformed", &["frame.number"])?.is_empty());

    // The request stands in it as the client sent it and as the backend got it, and is one packet.
    let [service, backend] = [
        calls.lab.service("web-node1").cluster_ip,
        calls.lab.pod("b1").ipv4,
    ];
    let fields = ["frame.packet_id", "frame.interface_name", "tcp.len"];
    let before = format!("ip.dst == {service} && tcp.dstport == 80 && tcp.flags.push == 1");
    let before = dissected(&file, &before, &fields)?;
    let after = format!("ip.dst == {backend} && tcp.dstport == 8080 && tcp.flags.push == 1");
    let after = dissected(&file, &after, &fields)?;
    let id = |lines: &[Vec<String>]| lines.first().and_then(|line| line.first().cloned());
    ensure!(
        id(&before).is_some() && id(&before) == id(&after),
        "{before:?} {after:?}"
    );
    let sent = format!("{}/eth0", calls.lab.netns("a1"));
    let got = format!("{}/eth0", calls.lab.netns("b1"));
    ensure!(before.iter().any(|line| line[1] == sent), "{before:?}");
    ensure!(after.iter().any(|line| line[1] == got), "{after:?}");
    ensure!(before.iter().chain(&after).all(|line| line[2] != "0"));

    let translated = "frame.comment contains \"prerouting\" && frame.comment contains \"DNAT\"";
    let translated = dissected(&file, translated, &["frame.comment"])?;
    ensure!(!translated.is_empty());
    let dropped = dissected(&file, "frame.comment contains \"DROPPED at\"", &["ip.dst"])?;
    let ghost = calls.lab.service("ghost").cluster_ip.to_string();
    ensure!(dropped == [[ghost]], "{dropped:?}");
    calls.end()
}

#[test]
fn a_capture_with_bytes_shows_the_request_before_and_after_translation() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let directory = tempfile::tempdir()?;
    let (recording, file) = (
        directory.path().join("rec"),
        directory.path().join("pcapng"),
    );
    let mut record = command(["record", "--bytes", "512", "-o"])?;
    record.arg(&recording).arg(whole_lab(&lab));
    let mut running = Running::start(record)?;
    running.wait_for("tracer: recording")?;
    let [service, ghost] = ["web-node1", "ghost"].map(|name| lab.service(name).cluster_ip);
    let url = format!("http://{service}/");
    lab.run(lab.command("a1", "curl").args(["-sS", &url]))?;
    // Nobody takes this one.
    let url = format!("http://{ghost}/");
    let refused = lab
        .command("a1", "curl")
        .args(["-sS", "-m", "5", &url])
        .output()?;
    ensure!(!refused.status.success());
    let ended = running.interrupt()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let mut export = command(["export"])?;
    export
        .arg(&recording)
        .args(["--to", "pcapng", "-o"])
        .arg(&file);
    let ended: Ended = export.output()?.try_into()?;
    ensure!(ended.status.success(), "{}", ended.stderr);

    let backend = lab.pod("b1").ipv4;
    let fields = ["http.request.method", "http.host", "frame.interface_name"];
    for (address, port) in [(service, 80), (backend, 8080)] {
        let filter = format!("http.request && ip.dst == {address} && tcp.dstport == {port}");
        let requests = dissected(&file, &filter, &fields)?;
        ensure!(!requests.is_empty(), "no request at {address}:{port}");
        let asked = ["GET".to_owned(), service.to_string()];
        ensure!(
            requests.iter().all(|line| line[..2] == asked),
            "{requests:?}"
        );
    }
    let answers = format!("http.response.code == 200 && ip.src == {service}");
    ensure!(!dissected(&file, &answers, &["frame.number"])?.is_empty());
    ensure!(dissected(&file, "_ws.malformed", &["frame.number"])?.is_empty());
    // What was kept whole has right checksums wherever it is.
    let wrong = "frame.comment contains \"bytes kept\" && (ip.checksum.status == 0 || tcp.checksum.status == 0)";
    let wrong = dissected(&file, wrong, &["frame.number", "frame.comment"])?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    let dropped = "frame.comment contains \"DROPPED at\" && frame.comment contains \"bytes kept\"";
    let dropped = dissected(&file, dropped, &["ip.dst", "tcp.options.mss_val"])?;
    ensure!(
        dropped
            .iter()
            .any(|line| line[0] == ghost.to_string() && !line[1].is_empty()),
        "{dropped:?}"
    );
    lab.down()
}

#[test]
fn a_timeline_has_each_flow_and_each_hop() -> anyhow::Result<()> {
    needs_a_lab!();
    let calls = Calls::new()?;
    let ended = calls.export(&["--to", "perfetto"])?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let timeline: Value = serde_json::from_str(&ended.stdout)?;
    let events = timeline["traceEvents"].as_array().context("no events")?;
    let of = |category: &str| {
        let slices = events.iter();
        slices
            .filter(|event| event["ph"] == "X" && event["cat"] == category)
            .count()
    };
    let (_, trace) = calls.replayed()?;
    let hops = trace.packets.iter().flat_map(|packet| &packet.hops);
    ensure!(of("hop") + of("drop") == hops.count());
    ensure!(of("flow") == trace.flows.len());
    let drops = trace
        .packets
        .iter()
        .filter(|packet| packet.verdict == Verdict::Dropped);
    ensure!(of("drop") == drops.count() && of("drop") > 0);
    let named = |name: &str| {
        let names = events
            .iter()
            .filter(|event| event["name"] == "process_name");
        names
            .filter_map(|event| event["args"]["name"].as_str())
            .any(|process| process.contains(name))
    };
    ensure!(
        ["flows", "node1", "pod-a1", "pod-b1"]
            .into_iter()
            .all(named)
    );
    // A call that takes less than a minute.
    let late = |event: &&Value| event["ts"].as_f64().is_some_and(|ts| ts > 60_000_000.0);
    ensure!(!events.iter().any(|event| late(&event)));
    calls.end()
}

/// A browser, where there is one: it is large, so nothing installs it for this.
fn browser() -> Option<&'static str> {
    let is_there = |program: &&str| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(is_there)
}

#[test]
fn a_page_shows_flows_drops_and_journeys_in_a_browser() -> anyhow::Result<()> {
    needs_a_lab!();
    let calls = Calls::new()?;
    let file = calls.file("page.html");
    let ended = calls.export(&["--to", "html", "-o", file.to_str().context("not UTF-8")?])?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let page = std::fs::read_to_string(&file)?;
    let (_, trace) = calls.replayed()?;
    let [service, ghost] = ["web-node1", "ghost"].map(|name| calls.lab.service(name).cluster_ip);
    for said in [
        format!("{service}:80"),
        format!("{ghost}:80"),
        format!("DNAT {service}:80 -&gt; {}:8080", calls.lab.pod("b1").ipv4),
        format!("DROPPED at forward in {}", calls.lab.netns("node1")),
        "What went wrong".to_owned(),
    ] {
        ensure!(page.contains(&said), "{said}");
    }
    for flow in &trace.flows {
        ensure!(page.contains(&format!("id=\"flow-{}\"", flow.id)));
    }
    ensure!(!page.contains("<script"));

    let Some(browser) = browser() else {
        eprintln!("not looked at in a browser: there is no chromium");
        return calls.end();
    };
    let picture = calls.file("page.png");
    let mut chromium = Command::new(browser);
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]);
    chromium.arg(format!(
        "--user-data-dir={}",
        calls.file("profile").display()
    ));
    chromium.arg(format!("--screenshot={}", picture.display()));
    chromium.arg(format!("file://{}", file.display()));
    let ended: Ended = chromium.output()?.try_into()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    // Where the policy refuses something, or the page does not hold together, the console says so.
    ensure!(!ended.stderr.contains("CONSOLE"), "{}", ended.stderr);
    ensure!(std::fs::metadata(&picture)?.len() > 20_000);
    calls.end()
}
