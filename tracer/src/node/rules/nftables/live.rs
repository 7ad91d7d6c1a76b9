//! Reading the rules of the calling thread's namespace, by way of the program `nft`.
//!
//! The program is the one part of nftables that decodes all expressions of its kernel; it is asked
//! to list and nothing else. It is not run where there is nothing for it to say: no nf_tables in the
//! kernel, no table, or only tables of iptables-nft, which `iptables-nft-save` tells better. Whether
//! anything changed since is one small question to the kernel
//! ([`generation`](crate::node::nf_tables::generation)), so nothing is read twice.
//!
//! Limits: what packets add to sets is as old as the last reading. A table that is called and built
//! like one of iptables-nft's is taken for it.

use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    RuleSet,
    index::{BUILT_IN, IPTABLES},
    read::{MAX_BYTES, ReadError},
};
use crate::node::nf_tables;

/// How long the program may take: some 50,000 rules on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is kept of its complaints.
const MAX_COMPLAINT: usize = 4096;
/// Where it is when the search path has no directories of the administrator's.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// Why nftables' rules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The kernel did not answer.
    #[error("cannot ask nf_tables: {0}; this needs CAP_NET_ADMIN")]
    Ask(io::Error),
    /// There are rules and no program to read them with.
    #[error("there are nftables rules, but no program nft to read them with: install nftables")]
    Missing,
    /// The program could not be run.
    #[error("cannot run nft: {0}")]
    Run(io::Error),
    /// The program failed.
    #[error("nft failed: {0}")]
    Failed(String),
    /// It did not end.
    #[error("nft did not list the rules within {} s", PATIENCE.as_secs())]
    Patience,
    /// It said something else than a listing.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The nftables rules of the calling thread's namespace; an empty set where there are none.
///
/// # Errors
/// When the kernel or the program does not answer, or not as expected.
pub fn read() -> Result<RuleSet, LiveError> {
    if !nf_tables::present() || !own_tables().map_err(LiveError::Ask)? {
        return Ok(RuleSet::default());
    }
    let program = find("nft").ok_or(LiveError::Missing)?;
    let listing = list(&program)?;
    Ok(RuleSet::parse(&listing)?)
}

/// The program `nft`, where there is one.
#[must_use]
pub fn program() -> Option<PathBuf> {
    find("nft")
}

/// Whether there is a table that is not one of iptables-nft's.
fn own_tables() -> io::Result<bool> {
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    const IP: [u8; 2] = [2, 10];
    let tables = nf_tables::tables()?;
    let by_name = |table: &nf_tables::Table| {
        IP.contains(&table.family) && IPTABLES.contains(&table.name.as_str())
    };
    if !tables.iter().all(by_name) {
        return Ok(true);
    }
    // Asked only now, for there may be many chains.
    let mut chains = if tables.is_empty() {
        Vec::new()
    } else {
        nf_tables::base_chains()?
    };
    chains.retain(|chain| !BUILT_IN.contains(&chain.name.as_str()));
    Ok(!chains.is_empty())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    let mut programs = directories.map(|directory| directory.join(name));
    programs.find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
}

/// What the program lists, in the namespace of the calling thread, which it inherits.
fn list(program: &Path) -> Result<String, LiveError> {
    let arguments = ["-j", "list", "ruleset"].map(OsStr::new);
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LiveError::Run)?;
    let output = output(&mut child);
    if output.is_err() {
        // It is not waited for any longer.
        let _ = child.kill();
    }
    let status = child.wait().map_err(LiveError::Run)?;
    let (listing, complaint) = output?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let line = complaint.lines().next().unwrap_or_default();
        return Err(LiveError::Failed(format!("{line} ({status})")));
    }
    String::from_utf8(listing).map_err(|error| LiveError::Failed(error.to_string()))
}

/// One of the child's two pipes.
struct Pipe {
    end: OwnedFd,
    open: bool,
    kept: Vec<u8>,
    /// What is kept of it.
    most: usize,
}

impl Pipe {
    fn new(end: impl Into<OwnedFd>, most: usize) -> Self {
        Self {
            end: end.into(),
            open: true,
            kept: Vec::new(),
            most,
        }
    }

    /// Takes what there is.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let length = match rustix::io::read(&self.end, &mut *buffer) {
            Err(Errno::INTR) => return Ok(()),
            length => length?,
        };
        let room = self.most.saturating_sub(self.kept.len()).min(length);
        self.kept.extend_from_slice(&buffer[..room]);
        self.open = length > 0;
        Ok(())
    }
}

/// All of the child's output and the beginning of its complaints.
fn output(child: &mut Child) -> Result<(Vec<u8>, Vec<u8>), LiveError> {
    let (Some(said), Some(complained)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(LiveError::Run(io::Error::other("no pipe")));
    };
    let end = Instant::now() + PATIENCE;
    let mut pipes = [
        Pipe::new(said, MAX_BYTES + 1),
        Pipe::new(complained, MAX_COMPLAINT),
    ];
    let mut buffer = vec![0; 64 << 10];
    while pipes.iter().any(|pipe| pipe.open) {
        let left = end.saturating_duration_since(Instant::now());
        for place in ready(&pipes, left)? {
            pipes[place].take(&mut buffer).map_err(LiveError::Run)?;
        }
        if pipes[0].kept.len() > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            let what = format!("its listing is longer than {most} MiB");
            return Err(LiveError::Failed(what));
        }
    }
    let [listing, complaint] = pipes.map(|pipe| pipe.kept);
    Ok((listing, complaint))
}

/// The open pipes from which there is something to take.
fn ready(pipes: &[Pipe], left: Duration) -> Result<Vec<usize>, LiveError> {
    let open = (0..pipes.len()).filter(|&place| pipes[place].open);
    let open: Vec<usize> = open.collect();
    let polled = open.iter();
    let mut polled: Vec<_> = polled
        .map(|&place| PollFd::new(&pipes[place].end, PollFlags::IN))
        .collect();
    let left = Timespec::try_from(left).map_err(|_| LiveError::Patience)?;
    match poll(&mut polled, Some(&left)) {
        Ok(0) => return Err(LiveError::Patience),
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(LiveError::Run(error.into())),
    }
    let ready = open.iter().zip(&polled);
    let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(place, _)| *place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{
        nf_tables::generation,
        testing::{in_new_netns, root, run},
    };

    /// Whether nft works here; says so when it does not.
    fn nft() -> bool {
        root() && in_new_netns(|| run("nft add table inet test"))
    }

    #[test]
    fn an_empty_namespace_has_no_rules_and_reading_makes_none() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            assert!(read().unwrap() == RuleSet::default());
            assert!(!nf_tables::present() || nf_tables::tables().unwrap().is_empty());
        });
    }

    #[test]
    fn rules_are_read_and_changes_are_noticed_without_reading() {
        if !nft() {
            return;
        }
        in_new_netns(|| {
            assert!(run("nft add table inet test"));
            let before = generation().unwrap();
            let empty = read().unwrap();
            assert_eq!(empty.listing().objects.len(), 2);
            assert_eq!(generation().unwrap(), before, "reading changed something");
            for line in [
                "nft add chain inet test in { type filter hook input priority 0; }",
                "nft add set inet test s { type ipv4_addr; }",
                "nft add rule inet test in ip saddr @s drop",
                "nft add element inet test s { 10.0.0.1 }",
            ] {
                let before = generation().unwrap();
                assert!(run(line), "{line}");
                assert_ne!(generation().unwrap(), before, "{line}");
            }
            let rules = read().unwrap();
            let rule = rules.listing().objects.last().unwrap();
            let super::super::model::Object::Rule(rule) = rule else {
                panic!("{rule:?}");
            };
            assert_eq!(rule.to_string(), "ip saddr @s drop");
        });
    }

    #[test]
    fn tables_of_iptables_alone_are_not_listed() {
        if !nft() {
            return;
        }
        in_new_netns(|| {
            if !run("iptables-nft -t nat -A OUTPUT -j ACCEPT") {
                return println!("skipped: iptables-nft does not work here");
            }
            let before = generation().unwrap();
            assert!(read().unwrap() == RuleSet::default());
            assert!(run("iptables-nft -A FORWARD -j DROP"));
            assert_ne!(generation().unwrap(), before);
            // One of another name beside them: all are listed, and theirs known again.
            assert!(run("nft add table ip kube-proxy"));
            let rules = read().unwrap();
            let theirs: Vec<_> = rules.tables_of_iptables().collect();
            assert!(theirs.contains(&"ip nat".to_owned()), "{theirs:?}");
            assert!(!theirs.contains(&"ip kube-proxy".to_owned()), "{theirs:?}");
        });
        in_new_netns(|| {
            // One of the same name that iptables-nft did not make.
            assert!(run("nft add table ip nat"));
            assert!(run(
                "nft add chain ip nat prerouting { type nat hook prerouting priority -100; }"
            ));
            let rules = read().unwrap();
            assert_eq!(rules.tables_of_iptables().count(), 0);
            assert_eq!(rules.listing().objects.len(), 3);
        });
    }

    #[test]
    fn a_program_that_fails_or_talks_too_much_is_an_error() {
        let script = |text: &str| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("nft");
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
            loop {
                match list(&path) {
                    // A child of another test still has it open for writing.
                    Err(LiveError::Run(error))
                        if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                    said => return said,
                }
            }
        };
        assert_eq!(script("echo out; echo err >&2").unwrap(), "out\n");
        let error = script("echo no such file >&2; exit 1")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("nft failed: no such file (exit"),
            "{error}"
        );
        let error = script("exec cat /dev/zero").unwrap_err().to_string();
        assert!(error.contains("longer than 64 MiB"), "{error}");
        // Complaints beyond the pipe's size do not stop it.
        let much = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo done";
        assert_eq!(script(much).unwrap(), "done\n");
        assert!(matches!(
            list(Path::new("/nonexistent/nft")),
            Err(LiveError::Run(_))
        ));
    }
}
