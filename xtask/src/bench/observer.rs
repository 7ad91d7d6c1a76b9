//! Who looks at the traffic: the tracer, and what an operator would use otherwise.
//!
//! Each is started as an operator would, waited for until it says that it looks, and ended by Ctrl-C.
//! What it prints goes to /dev/null or to a file, never to a pipe that this process would have to read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tracer_tests::lab::Lab;
use tracer_tests::trace::processor_time::seconds_of;

use super::empty::{Empty, PROGRAMS};
use super::stage::{NODE, scratch};
use crate::process;

/// What a tracer records into.
pub(crate) const RECORDING: &str = "observer.rec";
/// How long starting and ending may take.
const LIMIT: Duration = Duration::from_secs(60);
/// For programs that do not say that they look.
const SETTLING: Duration = Duration::from_millis(500);
/// No packet has it (RFC 5737).
const NOWHERE: &str = "203.0.113.7";

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observer {
    /// `tracer record` with a filter, into a file.
    Record(&'static str),
    /// The same, with netfilter's hooks seen by links.
    RecordByLinks(&'static str),
    /// Programs that do nothing, where the tracer has its own: what no tracer with these hooks is below.
    Empty,
    /// `tracer watch --summary`, to nowhere.
    Watch(&'static str),
    /// `tracer watch --json` of what goes to the Service.
    Flow(String),
    /// `tcpdump -i any` in the node, to nowhere.
    Tcpdump(&'static str),
    /// `nft monitor trace` in the node, of packets from that address, or of all.
    Nft(Option<&'static str>),
    /// bpftrace counting at five tracepoints of the network stack.
    Bpftrace,
    /// retis with its generic profile.
    Retis(&'static str),
}

/// That one of all filters that nothing matches.
pub(crate) const NO_MATCH: &str = "host 203.0.113.7";
/// The filter that everything matches.
pub(crate) const EVERYTHING: &str = "";
/// The address that nothing matches.
pub(crate) const NO_ADDRESS: &str = NOWHERE;

/// The five that follow a packet from device to device.
const TRACEPOINTS: &str = "tracepoint:net:net_dev_queue,tracepoint:net:net_dev_start_xmit,\
     tracepoint:net:netif_rx,tracepoint:net:netif_receive_skb,tracepoint:skb:consume_skb\
     { @[probe] = count(); }";

/// Looks at all devices, as root, asks no name server, writes to nowhere.
const TCPDUMP: &[&str] = &["-Z", "root", "-n", "-i", "any", "-w", "/dev/null"];
/// Its generic profile; the file follows.
const RETIS: &[&str] = &["collect", "-p", "generic", "--allow-system-changes", "-o"];
/// Rules that have packets traced.
const NFT_TABLE: &str = "bench";

impl Observer {
    /// Whether the program is on this machine.
    pub(crate) fn is_there(&self) -> bool {
        let program = match self {
            Self::Record(_)
            | Self::RecordByLinks(_)
            | Self::Empty
            | Self::Watch(_)
            | Self::Flow(_) => return true,
            Self::Tcpdump(_) => "tcpdump",
            Self::Nft(_) => "nft",
            Self::Bpftrace => "bpftrace",
            Self::Retis(_) => "retis",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }

    /// Starts it and waits until it looks.
    ///
    /// # Errors
    /// When it cannot be started: what it said.
    pub(crate) fn start(&self, lab: &Lab, tracer: &Path) -> anyhow::Result<Looking> {
        if *self == Self::Empty {
            return Looking::of_empty(lab);
        }
        let output = scratch("observer.out")?;
        let (mut command, ready) = self.command(lab, tracer)?;
        if let Self::Nft(address) = self {
            nft_table(lab, *address)?;
        }
        let errors = scratch("observer.err")?;
        let stdout = match self {
            Self::Flow(_) => File::create(&output)?.into(),
            _ => Stdio::null(),
        };
        let child = command
            .env("TRACER_HOST_ROOT", lab.root())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot run `{}`", process::line(&command)))?;
        let mut looking = Looking {
            child: Some(child),
            empty: Vec::new(),
            output,
            errors,
            nft: matches!(self, Self::Nft(_)),
        };
        looking.wait_for(ready)?;
        Ok(looking)
    }

    /// What is run, and what it says when it looks.
    fn command(&self, lab: &Lab, tracer: &Path) -> anyhow::Result<(Command, Option<&'static str>)> {
        let (mut command, ready) = match self {
            Self::Record(_) | Self::RecordByLinks(_) => {
                let mut command = Command::new(tracer);
                command.args(["record", "--overwrite", "-o"]);
                command.arg(scratch(RECORDING)?);
                if matches!(self, Self::RecordByLinks(_)) {
                    command.args(["--netfilter", "link"]);
                }
                (command, Some("tracer: recording"))
            }
            Self::Watch(_) => (
                with(Command::new(tracer), &["watch", "--summary"]),
                Some("tracer: watching"),
            ),
            Self::Flow(_) => (
                with(Command::new(tracer), &["watch", "--json"]),
                Some("tracer: watching"),
            ),
            Self::Tcpdump(_) => (
                with(lab.command(NODE, "tcpdump"), TCPDUMP),
                Some("listening on"),
            ),
            Self::Nft(_) => (with(lab.command(NODE, "nft"), &["monitor", "trace"]), None),
            Self::Bpftrace => (with(Command::new("bpftrace"), &["-e", TRACEPOINTS]), None),
            Self::Empty => bail!("no program is run for these"),
            Self::Retis(_) => {
                let mut command = with(Command::new("retis"), RETIS);
                command.arg(scratch("observer.retis")?);
                (command, None)
            }
        };
        match self.filter() {
            "" => {}
            filter if matches!(self, Self::Retis(_)) => drop(command.args(["-f", filter])),
            filter => drop(command.arg(filter)),
        }
        Ok((command, ready))
    }

    /// In the words of pcap-filter, which the tracer shares; empty: everything.
    fn filter(&self) -> &str {
        match self {
            Self::Record(terms)
            | Self::RecordByLinks(terms)
            | Self::Watch(terms)
            | Self::Tcpdump(terms)
            | Self::Retis(terms) => terms,
            Self::Flow(terms) => terms,
            Self::Nft(_) | Self::Bpftrace | Self::Empty => EVERYTHING,
        }
    }
}

fn with(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}

/// Has packets traced that come through the node.
fn nft_table(lab: &Lab, address: Option<&str>) -> anyhow::Result<()> {
    let only = address.map_or_else(String::new, |address| format!("ip saddr {address} "));
    let rules = format!(
        "table ip {NFT_TABLE} {{ chain traced {{ type filter hook prerouting priority -350; \
         {only}meta nftrace set 1; }}; }}"
    );
    lab.run(lab.command(NODE, "nft").arg(rules)).map(drop)
}

/// One that looks. Dropping it ends it.
pub(crate) struct Looking {
    /// None for empty programs.
    child: Option<Child>,
    empty: Vec<Empty>,
    output: PathBuf,
    errors: PathBuf,
    nft: bool,
}

impl Looking {
    fn of_empty(lab: &Lab) -> anyhow::Result<Self> {
        let empty: anyhow::Result<Vec<Empty>> = PROGRAMS
            .iter()
            .map(|(_, place)| Empty::attach(*place, lab, NODE))
            .collect();
        Ok(Self {
            child: None,
            empty: empty?,
            output: PathBuf::new(),
            errors: PathBuf::new(),
            nft: false,
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn said(&self) -> String {
        let said = fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn wait_for(&mut self, text: Option<&str>) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let status = self.child.as_mut().map(Child::try_wait).transpose()?;
            if let Some(status) = status.flatten() {
                bail!("the observer ended ({status}): {}", self.said());
            }
            match text {
                Some(text) if self.said().contains(text) => return Ok(()),
                None if begin.elapsed() > SETTLING => return Ok(()),
                _ => {}
            }
            ensure!(begin.elapsed() < LIMIT, "not ready: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The processor time that it took so far, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn processor_time(&self) -> anyhow::Result<f64> {
        if self.child.is_none() {
            return Ok(0.0);
        }
        seconds_of(Path::new(&format!("/proc/{}/stat", self.pid())))
            .context("the observer has ended")
    }

    /// Ends it as Ctrl-C does, and says what it printed where that was kept, and what it said.
    ///
    /// # Errors
    /// When it fails, or does not end.
    pub(crate) fn end(mut self, lab: &Lab) -> anyhow::Result<(String, String)> {
        self.empty.clear();
        if let Some(child) = &mut self.child {
            kill_process(Pid::from_child(child), Signal::INT)?;
            let begin = Instant::now();
            while child.try_wait()?.is_none() {
                ensure!(begin.elapsed() < LIMIT, "the observer does not end");
                thread::sleep(Duration::from_millis(5));
            }
        }
        if self.nft {
            lab.run(
                lab.command(NODE, "nft")
                    .args(["delete", "table", "ip", NFT_TABLE]),
            )?;
        }
        let output = fs::read_to_string(&self.output).unwrap_or_default();
        Ok((output, self.said()))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_file(&self.output);
    }
}
