//! What a large node has beside the traffic's own way: network namespaces and rules.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::Lab;

use crate::bench::stage::NODE;
use crate::process;

/// A rule of its own makes a namespace one whose hooks are looked at.
const TABLE: &str =
    "table ip own { chain own { type filter hook input priority 0; meta mark 1 accept; }; }";
/// The chain that holds the rules; only packets to the addresses of Services that are not called here reach it.
const CHAIN: &str = "BENCH-SERVICES";

/// Makes namespaces of these numbers, each with a rule. They go with the lab, whose name they carry.
///
/// # Errors
/// When one cannot be made.
pub(in crate::bench) fn add_namespaces(lab: &Lab, numbers: Range<u32>) -> anyhow::Result<()> {
    for number in numbers {
        let name = format!("{}-extra{number}", lab.id());
        process::run_quietly(Command::new("ip").args(["netns", "add", &name]))?;
        let path = format!("--net=/run/netns/{name}");
        process::run_quietly(Command::new("nsenter").args([&path, "--", "nft", TABLE]))?;
    }
    Ok(())
}

/// Adds rules of these numbers to the node, as kube-proxy has one for each Service.
///
/// # Errors
/// When `iptables-nft-restore` fails.
pub(super) fn add_rules(lab: &Lab, numbers: Range<u32>) -> anyhow::Result<()> {
    let mut command = lab.command(NODE, "iptables-nft-restore");
    let mut child = command
        .args(["--noflush", "--wait"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run iptables-nft-restore")?;
    let mut stdin = child.stdin.take().context("no input")?;
    stdin.write_all(rules(numbers).as_bytes())?;
    drop(stdin);
    let status = child.wait()?;
    ensure!(status.success(), "iptables-nft-restore: {status}");
    Ok(())
}

fn rules(numbers: Range<u32>) -> String {
    let mut text = "*nat\n".to_owned();
    if numbers.start == 0 {
        // Naming the chain makes it, and would empty one that is there.
        let _ = writeln!(
            text,
            ":{CHAIN} - [0:0]\n-A PREROUTING -d 10.97.0.0/16 -j {CHAIN}"
        );
    }
    for number in numbers {
        let [.., high, low] = number.to_be_bytes();
        let _ = writeln!(
            text,
            "-A {CHAIN} -d 10.97.{high}.{low}/32 -p tcp -m tcp --dport 80 -m comment \
             --comment \"default/bench{number}:http cluster IP\" -j RETURN"
        );
    }
    text + "COMMIT\n"
}

#[cfg(test)]
mod tests {
    use super::rules;

    #[test]
    fn the_chain_is_made_once() {
        let first = rules(0..2);
        assert_eq!(first.matches(":BENCH-SERVICES").count(), 1);
        assert_eq!(first.matches("-A BENCH-SERVICES").count(), 2);
        assert!(!rules(2..300).contains("PREROUTING"));
        assert!(rules(255..257).contains("-d 10.97.1.0/32"));
    }
}
