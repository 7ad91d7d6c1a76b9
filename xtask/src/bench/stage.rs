//! Where it is measured: a lab with a server of load behind a ClusterIP, and the kinds of traffic.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::load::Done;

use super::programs;
use crate::{packages, process};

/// The node through which it goes.
pub(crate) const NODE: &str = "node1";
/// Where the load is answered.
const SERVER: &str = "b1";
/// Where it comes from.
const CLIENT: &str = "a1";
/// The Service, whose only endpoint is the server.
const SERVICE: &str = "web-node1";
/// The port that the server listens on.
const PORT: u16 = 9000;
/// Both ends of request and response.
const BOTH: usize = 1;
/// Both ends of the flood, and who sends bytes. A taker on another processor would be woken by each datagram
/// that finds it asleep, which takes more than the datagram's whole way, or would have to spin beside
/// the sender, often on the same core. Here the whole way of a datagram is one processor's, and what
/// observes it has the other.
const SENDER: usize = 0;
/// From how many ports a flood goes that is spread over flows, at most.
const PORTS: u32 = 10;
/// Where it goes: the first of many addresses that no pod has, in the pods' range, so that nothing is
/// masqueraded.
const ADDRESSES: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 244, 128, 0), "10.244.128.0/17");
/// How long the one flow beside the flood pauses after an answer, in seconds.
const PAUSE: &str = "0.01";

/// A kind of traffic. All of it is between two pods of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Datagrams of 64 bytes from pod to pod; those count that arrive.
    Flood,
    /// The same, beside a connection with a request now and then.
    FloodBeside,
    /// Requests over one connection through a ClusterIP.
    Ask,
    /// A connection through the ClusterIP for each request.
    Connect,
    /// Bytes over one connection through the ClusterIP.
    Send,
}

impl Load {
    /// As the table calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flood => "UDP flood, datagrams a second",
            Self::FloodBeside => "UDP flood beside the traced flow, datagrams a second",
            Self::Ask => "request and response, a second",
            Self::Connect => "connect and request, a second",
            Self::Send => "bulk TCP, MB a second",
        }
    }

    /// How many of what is counted make one in the table.
    pub(crate) const fn unit(self) -> f64 {
        match self {
            Self::Send => 1e6,
            _ => 1.0,
        }
    }
}

/// The lab with the server.
pub(crate) struct Stage {
    server: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    program: PathBuf,
    seconds: f64,
    lab: Lab,
}

impl Stage {
    /// Builds what is needed and raises it. Each load then takes so many seconds.
    ///
    /// # Errors
    /// When something cannot be built or raised, or the machine has one processor only.
    pub(crate) fn raise(seconds: f64) -> anyhow::Result<Self> {
        let processors = std::thread::available_parallelism()?.get();
        ensure!(
            processors >= 2,
            "the observer needs a processor beside the traffic's"
        );
        packages::install_for_lab()?;
        process::build_lab_server()?;
        let program = process::build_load()?;
        programs::warn_of_others();
        let mut lab = Lab::up(&Config::default())?;
        lab.switch_to(SERVICE, &[SERVER], PORT)?;
        let mut server = lab
            .command(SERVER, &program)
            .args(["serve".to_owned(), PORT.to_string()])
            .args([BOTH, SENDER].map(|processor| processor.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the server of load")?;
        let (Some(orders), Some(answers)) = (server.stdin.take(), server.stdout.take()) else {
            bail!("the server has no pipes");
        };
        let mut stage = Self {
            server,
            orders,
            answers: BufReader::new(answers),
            program,
            seconds,
            lab,
        };
        ensure!(stage.line()? == "ready", "the server is not ready");
        Ok(stage)
    }

    /// The lab.
    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Where the Service is.
    pub(crate) fn service(&self) -> SocketAddr {
        (self.lab.service(SERVICE).cluster_ip, 80).into()
    }

    /// Lets the traffic run once.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn run(&mut self, load: Load) -> anyhow::Result<Done> {
        match load {
            Load::Flood => self.flood(None),
            Load::FloodBeside => {
                let mut command = self.client("ask", BOTH, self.service());
                let beside = command.arg(PAUSE).stdout(Stdio::piped()).spawn()?;
                let done = self.flood(None)?;
                let beside = beside.wait_with_output()?;
                ensure!(
                    beside.status.success(),
                    "the flow beside: {}",
                    beside.status
                );
                Ok(done)
            }
            Load::Ask => done(&mut self.client("ask", BOTH, self.service())),
            Load::Connect => done(&mut self.client("connect", BOTH, self.service())),
            Load::Send => done(&mut self.client("send", SENDER, self.service())),
        }
    }

    /// Datagrams over so many flows, in turn.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub(crate) fn spread(&mut self, flows: u32) -> anyhow::Result<Done> {
        let ports = PORTS.min(flows);
        self.flood(Some([ports, flows / ports]))
    }

    /// Makes the server answer at many addresses beside its own.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(crate) fn open_addresses(&self) -> anyhow::Result<()> {
        let via = self.lab.pod(SERVER).ipv4.to_string();
        let mut here = self.lab.command(SERVER, "ip");
        here.args(["route", "replace", "local", ADDRESSES.1, "dev", "lo"]);
        let mut there = self.lab.command(CLIENT, "ip");
        there.args(["route", "replace", ADDRESSES.1, "via", &via]);
        self.lab.run(&mut here)?;
        self.lab.run(&mut there).map(drop)
    }

    /// What counts is what the server got.
    fn flood(&mut self, spread: Option<[u32; 2]>) -> anyhow::Result<Done> {
        let to = match spread {
            None | Some([_, 1]) => self.lab.pod(SERVER).ipv4,
            Some(_) => ADDRESSES.0,
        };
        let before = self.arrived()?;
        let mut client = self.client("flood", SENDER, (to, PORT).into());
        let more = spread
            .into_iter()
            .flatten()
            .map(|number| number.to_string());
        let sent = done(client.args(more))?;
        let count = self.arrived()? - before;
        ensure!(count > 0, "no datagram arrived");
        Ok(Done { count, ..sent })
    }

    fn client(&self, what: &str, processor: usize, server: SocketAddr) -> Command {
        let mut command = self.lab.command(CLIENT, &self.program);
        command.args([what.to_owned(), processor.to_string(), server.to_string()]);
        command.arg(self.seconds.to_string());
        command
    }

    /// How many datagrams the server got so far.
    fn arrived(&mut self) -> anyhow::Result<u64> {
        writeln!(self.orders).context("the server of load has ended")?;
        self.line()?.parse().context("the server's count")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something could not be removed.
    pub(crate) fn down(mut self) -> anyhow::Result<()> {
        drop(self.orders);
        self.server.wait()?;
        self.lab.down()
    }
}

fn done(command: &mut Command) -> anyhow::Result<Done> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run `{}`", process::line(command)))?;
    let line = process::line(command);
    ensure!(
        output.status.success(),
        "`{line}` failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).with_context(|| format!("what `{line}` says"))
}

/// A path below the directory for what is measured with, without what was there.
///
/// # Errors
/// When there can be no such directory.
pub(crate) fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let directory: &Path = &process::target_directory()?.join("bench");
    std::fs::create_dir_all(directory)?;
    Ok(directory.join(name))
}
