//! `cargo xtask soak`: does a tracer that runs for long stay as it was?
//!
//! On a lab, pods are deleted and made anew with the same addresses, a Service gets other endpoints (so that the
//! node's rules change), network namespaces with rules come and go, and connections are made all the
//! time, while `tracer watch --json` and `tracer record` with rotating files trace everything. Their memory,
//! their descriptors and what they lost are looked at every few seconds. It fails unless these are
//! [flat](flat).

mod flat;
mod subject;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};

use self::flat::{Sample, judge};
use self::subject::Subject;
use crate::{packages, process};

/// Who calls, and the Service that is called.
const CLIENT: &str = "a1";
const SERVICE: &str = "web";
/// The server pods: the one that stays, and the one that comes and goes.
const STAYS: &str = "b2";
const GOES: &str = "b1";
/// The port of the server of load, in both.
const PORT: &str = "9000";
/// Between two looks at the tracers.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long connections are made in each round, and the pause after each, in seconds: some hundreds a
/// second, which a ring takes without loss.
const CALLS: [&str; 2] = ["1", "0.002"];
/// Has hooks, so its links come and go with it.
const TABLE: &str =
    "table ip own { chain own { type filter hook input priority 0; meta mark 1 accept; }; }";

/// How long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The tracer to run instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
}

/// Runs it, and prints what was seen.
///
/// # Errors
/// When something cannot be built, raised or changed, or a tracer does not stay as it was.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::install_for_lab()?;
    process::build_lab_server()?;
    let load = process::build_load()?;
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    let directory = process::target_directory()?.join("soak");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let mut lab = Lab::up(&Config::default())?;
    lab.switch_to(SERVICE, &[STAYS], PORT.parse()?)?;
    let _server = serve(&lab, &load, STAYS)?;
    let subjects = [
        Subject::watch(&lab, &tracer, &directory)?,
        Subject::record(&lab, &tracer, &directory)?,
    ];
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0)?;
    let samples = churn(&mut lab, &load, &subjects, time)?;
    let mut verdicts = Vec::new();
    for (subject, samples) in subjects.into_iter().zip(&samples) {
        let name = subject.name;
        let lost = subject.end()?;
        verdicts.push(judge(samples, lost).with_context(|| format!("tracer {name}")));
    }
    lab.down()?;
    fs::remove_dir_all(&directory)?;
    for verdict in verdicts {
        println!("{}", verdict?);
    }
    Ok(())
}

/// Changes things until the time is over; what was seen of each tracer meanwhile.
fn churn(
    lab: &mut Lab,
    load: &std::path::Path,
    subjects: &[Subject; 2],
    time: Duration,
) -> anyhow::Result<[Vec<Sample>; 2]> {
    let service: SocketAddr = (lab.service(SERVICE).cluster_ip, 80).into();
    let mut samples = [Vec::new(), Vec::new()];
    let mut rounds = 0;
    let (begin, mut next) = (Instant::now(), INTERVAL);
    println!("| minutes | tracer | memory, KiB | descriptors | rounds |\n|---|---|---|---|---|");
    while begin.elapsed() < time {
        round(lab, load, service, rounds)?;
        rounds += 1;
        if begin.elapsed() < next {
            continue;
        }
        next = begin.elapsed() + INTERVAL;
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let sample = subject.look()?;
            let Sample {
                memory,
                descriptors,
            } = sample;
            let minutes = begin.elapsed().as_secs_f64() / 60.0;
            let name = subject.name;
            println!("| {minutes:.1} | {name} | {memory} | {descriptors} | {rounds} |");
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// One of everything that comes and goes.
fn round(
    lab: &mut Lab,
    load: &std::path::Path,
    service: SocketAddr,
    number: u32,
) -> anyhow::Result<()> {
    let before = lab.delete_pod(GOES)?;
    call(lab, load, service)?;
    lab.replace_pod(GOES, &before)?;
    let server = serve(lab, load, GOES)?;
    let port = PORT.parse()?;
    lab.switch_to(SERVICE, &[GOES, STAYS], port)?;
    let extra = format!("{}-extra{number}", lab.id());
    process::run_quietly(Command::new("ip").args(["netns", "add", &extra]))?;
    let path = format!("--net=/run/netns/{extra}");
    process::run_quietly(Command::new("nsenter").args([&path, "--", "nft", TABLE]))?;
    call(lab, load, service)?;
    process::run_quietly(Command::new("ip").args(["netns", "delete", &extra]))?;
    lab.switch_to(SERVICE, &[STAYS], port)?;
    drop(server);
    Ok(())
}

/// Makes connections for a while.
fn call(lab: &Lab, load: &std::path::Path, service: SocketAddr) -> anyhow::Result<()> {
    let mut command = lab.command(CLIENT, load);
    command
        .args(["connect", "0", &service.to_string()])
        .args(CALLS);
    process::run_quietly(&mut command)
}

/// A server of load, until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is gone all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(lab: &Lab, load: &std::path::Path, pod: &str) -> anyhow::Result<Server> {
    let child = lab
        .command(pod, load)
        .args(["serve", PORT, "0", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the server of load")?;
    let mut server = Server(child);
    let mut ready = [0; 6];
    let stdout = server.0.stdout.as_mut().context("no output")?;
    std::io::Read::read_exact(stdout, &mut ready)?;
    ensure!(&ready == b"ready\n", "the server of load is not ready");
    Ok(server)
}
