//! Connection tracking that has no room.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, bail, ensure};
use tracer_tests::lab::{Config, Lab};

use super::{Expected, PATIENT, SHORT, curl, diagnosed, healthy, on};

/// More than that is not filled: a machine of a size that no test runs on.
const MOST: u64 = 2_000_000;
/// To fill it with nothing else.
const ROUNDS: u32 = 10;

/// Fills the node's table to its limit, which is the machine's: it is not made smaller here, since
/// other namespaces have it too.
fn fill(lab: &Lab, node: &str) -> anyhow::Result<u64> {
    let max = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let max: u64 = max.trim().parse().context("no number")?;
    ensure!(max <= MOST, "nf_conntrack_max is {max}");
    let mut lines = String::new();
    // Established both ways, so that the kernel does not drop them to make room.
    for number in 0..max + 1000 {
        let (host, port) = (number / 60_000, 1000 + number % 60_000);
        writeln!(
            lines,
            "-I -p udp -s 198.18.{host}.1 -d 198.19.0.1 --sport {port} --dport 9 -r 198.19.0.1 -q 198.18.{host}.1 \
             --reply-port-src 9 --reply-port-dst {port} -t 600 -u SEEN_REPLY,ASSURED"
        )?;
    }
    let file = lab.directory().join("connections");
    fs::write(&file, lines)?;
    // Connections of others leave room when they end, and those that are not answered when somebody
    // else needs it (early_drop): a node's own, as its reports of multicast groups, come now and then.
    for _ in 0..ROUNDS {
        on(lab, node, "conntrack -F")?;
        // It ends where there is no more room.
        let ended = lab
            .command(node, "conntrack")
            .arg("-R")
            .arg(&file)
            .output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(said.contains("not enough memory"), "{said}");
        if !others(lab, node)? {
            return Ok(max);
        }
    }
    bail!("others' connections took room in each of {ROUNDS} rounds")
}

/// Whether the table has connections that were not put into it here.
fn others(lab: &Lab, node: &str) -> anyhow::Result<bool> {
    let listed = lab.run(lab.command(node, "conntrack").arg("-L"))?;
    Ok(listed.lines().any(|line| !line.contains("src=198.18.")))
}

#[test]
fn a_full_table_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node1").cluster_ip;
    let max = fill(&lab, "node1")?;
    let limit = format!("{max} connections of at most {max}");
    let expected = Expected {
        layer: "conntrack",
        cause: "conntrack-full",
        culprit: "nf_conntrack_max",
        said: &[
            "the table on",
            "node1 is full",
            &limit,
            "1 SYN dropped at prerouting",
        ],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    // What the node itself begins, and by the other node's table.
    let expected = Expected {
        said: &["the table on", "node1 is full", "dropped at output"],
        ..expected
    };
    diagnosed(&lab, ("node1", &curl(SHORT, service)), &expected)?;
    healthy(
        &lab,
        "a2",
        &curl(PATIENT, format!("{}:8080", lab.pod("b2").ipv4)),
    )?;
    on(&lab, "node1", "conntrack -F")?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}
