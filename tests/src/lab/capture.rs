//! tcpdump as an independent witness: which packets passed a device.
//!
//! Nothing here guesses how long tcpdump takes. It has started when it says so, and it has seen
//! everything when the packets it printed are as many as the kernel counts for its socket. When the
//! traffic itself is over only the test knows: a client like curl ends before its connection does,
//! so wait for the connection's end with [`Capture::stop_when`].

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Lab;

/// How long tcpdump may take for what it normally does at once.
const LIMIT: Duration = Duration::from_secs(20);
/// How long counts that should meet and do not must stand still to be final.
const STEADY: Duration = Duration::from_secs(2);

/// A running tcpdump. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    place: String,
    loopback: bool,
    messages: Receiver<String>,
    packets: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lab {
    /// Starts tcpdump on a device in the namespace called `name` for short, with a pcap filter
    /// (empty: everything), and waits until it listens.
    ///
    /// # Errors
    /// When tcpdump does not start: what it said.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn capture(&self, name: &str, device: &str, filter: &str) -> anyhow::Result<Capture> {
        let mut child = self
            .command(name, "tcpdump")
            .args([
                "-Z",
                "root",
                "-n",
                "-l",
                "--immediate-mode",
                // KiB: a busy machine reads late, and a witness must not miss anything.
                "-B",
                "16384",
                "-i",
                device,
                filter,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run tcpdump")?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("tcpdump has no output");
        };
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in lines(stderr) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let packets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&packets);
        let reader = thread::spawn(move || {
            // tcpdump ends its output with an empty line.
            for line in lines(stdout).filter(|line| !line.is_empty()) {
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        let mut capture = Capture {
            child,
            place: format!("{name}:{device}"),
            loopback: device == "lo",
            messages,
            packets,
            reader: Some(reader),
        };
        capture.wait_for("listening on")?;
        Ok(capture)
    }
}

/// The lines of a stream until it ends.
fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map_while(Result::ok)
}

impl Capture {
    /// Waits until the packets so far, one line each as `tcpdump -n` prints them, are what
    /// `complete` wants, and ends as [`Self::stop`].
    ///
    /// # Errors
    /// When they never are: the packets there were; and as [`Self::stop`].
    pub fn stop_when(self, complete: impl Fn(&[String]) -> bool) -> anyhow::Result<Vec<String>> {
        let limit = Instant::now() + LIMIT;
        loop {
            let packets = self.packets();
            if complete(&packets) {
                return self.stop();
            }
            if Instant::now() > limit {
                bail!(
                    "{}: the expected packets do not come: {packets:#?}",
                    self.place
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn packets(&self) -> Vec<String> {
        self.packets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The packets that passed until now, one line each as `tcpdump -n` prints them, and the end
    /// of tcpdump.
    ///
    /// # Errors
    /// When the kernel dropped packets that tcpdump should have seen, or tcpdump has failed.
    pub fn stop(mut self) -> anyhow::Result<Vec<String>> {
        let limit = Instant::now() + LIMIT;
        let mut before = (0, 0);
        let mut steady_since = Instant::now();
        loop {
            self.signal(Signal::USR1)?;
            let counts = Counts::parse(&self.wait_for(" captured, ")?)
                .context("tcpdump's counts are not understood")?;
            if counts.dropped > 0 {
                bail!("{}: tcpdump missed {} packets", self.place, counts.dropped);
            }
            // On the loopback device the kernel counts each packet twice, out and in.
            let received = counts.received / if self.loopback { 2 } else { 1 };
            if counts.captured == received {
                break;
            }
            // The kernel also counts what came before tcpdump's filter was in place, which tcpdump
            // throws away: then the two never meet, and only stop growing.
            let now = (counts.captured, counts.received);
            if now != before {
                (before, steady_since) = (now, Instant::now());
            } else if steady_since.elapsed() > STEADY {
                break;
            }
            if Instant::now() > limit {
                bail!("{}: tcpdump lags behind: {counts:?}", self.place);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::INT)?;
        self.child.wait().context("cannot wait for tcpdump")?;
        if self
            .reader
            .take()
            .is_some_and(|reader| reader.join().is_err())
        {
            bail!("{}: tcpdump's output is lost", self.place);
        }
        Ok(self.packets())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("tcpdump has no pid")?;
        kill_process(pid, signal).with_context(|| format!("{}: tcpdump has ended", self.place))
    }

    /// Waits for a message of tcpdump that holds `text`.
    fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let limit = Instant::now() + LIMIT;
        let mut said = Vec::new();
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => said.push(line),
                Err(_) => bail!(
                    "{}: tcpdump did not say {text:?} but: {}",
                    self.place,
                    said.join("; ")
                ),
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the packets end the given number of TCP connections: a FIN each way, and the last word
/// an acknowledgement.
#[must_use]
pub fn tcp_closed(packets: &[String], connections: usize) -> bool {
    let fins = packets
        .iter()
        .filter(|packet| packet.contains("Flags [F"))
        .count();
    let last = packets.last();
    fins >= 2 * connections && last.is_some_and(|packet| packet.contains("Flags [.]"))
}

/// What tcpdump counted.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    captured: u64,
    received: u64,
    dropped: u64,
}

impl Counts {
    /// From `tcpdump: 10 packets captured, 10 packets received by filter, 0 packets dropped by
    /// kernel` (`1 packet` for one).
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("tcpdump: ")?;
        let mut counts = line
            .split(", ")
            .map(|part| part.split(' ').next()?.parse().ok());
        Some(Self {
            captured: counts.next()??,
            received: counts.next()??,
            dropped: counts.next()??,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_by_two_fins_and_an_acknowledgement() {
        let packets = ["Flags [S],", "Flags [F.],", "Flags [F.],", "Flags [.],"].map(str::to_owned);
        assert!(tcp_closed(&packets, 1));
        assert!(!tcp_closed(&packets[..3], 1));
        assert!(!tcp_closed(&packets[..2], 1));
        assert!(!tcp_closed(&packets, 2));
    }

    #[test]
    fn counts_are_read() {
        let line = "tcpdump: 1 packet captured, 10 packets received by filter, 0 packets dropped by kernel";
        let counts = Counts {
            captured: 1,
            received: 10,
            dropped: 0,
        };
        assert_eq!(Counts::parse(line), Some(counts));
        assert_eq!(Counts::parse("tcpdump: verbose output suppressed"), None);
    }
}
