//! The live view on a terminal: from a curl to its DNAT by keys; and however it ends, the terminal is
//! as it was.

use anyhow::ensure;
use rustix::process::Signal;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{self, Ended, Running, whole_lab};
use tracer_tests::trace::screen::Screen;

/// The client ports.
const SEEN: u16 = 28_000;
const FAILED: u16 = 28_001;
const REPLAYED: u16 = 28_002;

/// What stands in the first line.
const HEADER: &[&str] = &["tracer", "1 Flows", "4 Node"];

/// Calls a Service from pod a1.
fn curl(lab: &Lab, service: &str, port: u16) -> anyhow::Result<bool> {
    let url = format!("http://{}/", lab.service(service).cluster_ip);
    let mut curl = lab.command("a1", "curl");
    curl.args([
        "-sS",
        "--max-time",
        "30",
        "--local-port",
        &port.to_string(),
        &url,
    ]);
    Ok(curl.output()?.status.success())
}

#[test]
fn a_curls_translation_is_found_by_keys() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let screen = Screen::run(&["live", &whole_lab(&lab)])?;
    screen.waits_for(&["no packets yet"])?;
    ensure!(curl(&lab, "web-node1", SEEN)?);
    // Found, and opened.
    screen.types(&format!("/:{SEEN}"))?;
    screen.waits_for(&["web-node1:http", "1 of"])?;
    screen.presses(&["Enter", "Enter"])?;
    let dnat = format!("DNAT {}:80", lab.service("web-node1").cluster_ip);
    let there = format!("{}:8080", lab.pod("b1").ipv4);
    let journey = [
        dnat.as_str(),
        &there,
        "KUBE-SVC-",
        "KUBE-SEP-",
        "SYN-ACK",
        "prerouting cni0",
    ];
    screen.waits_for(&journey)?;
    // As small as can be, and back.
    screen.resize(20, 5)?;
    screen.resize(80, 24)?;
    screen.waits_for(&["DNAT", "SYN-ACK"])?;
    screen.resize(120, 40)?;
    screen.waits_for(&journey)?;
    // The packet of the answer was translated back.
    screen.presses(&["Down"])?;
    screen.waits_for(&["2 of", "un-DNAT"])?;
    screen.presses(&["Escape", "Escape"])?;
    // What was dropped leads to its journey.
    ensure!(!curl(&lab, "ghost", FAILED)?);
    screen.types("2")?;
    screen.waits_for(&["KUBE-SERVICES", "ghost"])?;
    screen.presses(&["Enter"])?;
    screen.waits_for(&["default/ghost:http", "has no endpoints", "refused"])?;
    screen.types("3")?;
    screen.waits_for(&["cni0", "web-node1:http", "10.244.1.3"])?;
    screen.types("4")?;
    screen.waits_for(&["device.receive", "tp_btf tracepoints"])?;
    // What was seen is a recording.
    screen.types("w")?;
    screen.waits_for(&["wrote tracer-"])?;
    screen.types("q")?;
    screen.ended(0)?;
    recorded(&screen)?;
    lab.down()
}

/// What was saved has the curls.
fn recorded(screen: &Screen) -> anyhow::Result<()> {
    let mut files = std::fs::read_dir(screen.directory())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rec"));
    let (Some(file), None) = (files.next(), files.next()) else {
        anyhow::bail!("not one recording");
    };
    let file = file.to_string_lossy().into_owned();
    let ended: Ended = process::run(["replay", "--json", &file, "tcp"])?;
    let trace = ended.trace()?;
    for port in [SEEN, FAILED] {
        let of_port = |flow: &&tracer_tests::trace::json::Flow| flow.client.addr.port() == port;
        ensure!(trace.flows.iter().filter(of_port).count() == 1, "{port}");
    }
    Ok(())
}

#[test]
fn signals_leave_the_terminal_as_it_was() -> anyhow::Result<()> {
    needs_a_lab!();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let screen = Screen::run(&["live", "host 192.0.2.1"])?;
        screen.waits_for(HEADER)?;
        screen.waits_for(&["no packets yet"])?;
        screen.signal(signal)?;
        screen.ended(0)?;
    }
    // And before anything is attached.
    let screen = Screen::run(&[])?;
    screen.waits_for(HEADER)?;
    screen.types("q")?;
    screen.ended(0)
}

#[test]
fn what_cannot_start_is_said_on_the_terminal_as_it_was() -> anyhow::Result<()> {
    needs_a_lab!();
    let screen = Screen::run(&["live", "pod default/nobody-knows"])?;
    screen.ended(2)?;
    screen.waits_for(&["nobody-knows"])?;
    // Without a terminal there is none to show it on.
    let ended = process::run(["live"])?;
    ensure!(ended.status.code() == Some(2), "{ended:#?}");
    ensure!(ended.stderr.contains("tracer watch"), "{ended:#?}");
    Ok(())
}

#[test]
fn a_recording_is_played_on_the_terminal() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file.rec");
    let file = file.to_string_lossy().into_owned();
    let mut recording =
        Running::start(process::command(["record", "-o", &file, &whole_lab(&lab)])?)?;
    recording.wait_for("tracer: recording")?;
    ensure!(!curl(&lab, "ghost", REPLAYED)?);
    // What a rule dropped is shown when rules were looked at again, some tenths of a second later.
    std::thread::sleep(std::time::Duration::from_secs(3));
    ensure!(curl(&lab, "web-node1", REPLAYED)?);
    let ended = recording.interrupt()?;
    ensure!(ended.status.success(), "{ended:#?}");

    let screen = Screen::run(&["replay", &file, "port", &REPLAYED.to_string()])?;
    screen.waits_for(&["default/ghost:http", "default/web-node1:http", "end "])?;
    // From the begin to the drop, which comes before the other flow.
    screen.types("0")?;
    screen.waits_for(&["|| all"])?;
    screen.types("d")?;
    let text = screen.waits_for(&["default/ghost:http", "1 drop"])?;
    ensure!(!text.contains("default/web-node1:http"), "{text}");
    screen.types("p")?;
    screen.types(" ")?;
    screen.waits_for(&["end ", "problems only"])?;
    screen.types("q")?;
    screen.ended(0)?;
    lab.down()
}
