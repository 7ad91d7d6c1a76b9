//! `cargo xtask lab`: a lab for a person.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tracer_tests::lab::{
    Config, DNS_PORT, Fabric, HTTP_PORT, Lab, Plugin, Proxy, requirement, state,
};

use crate::{packages, process};

/// What to do with labs.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Raise a lab and say what stands where.
    Up(Up),
    /// Take down a lab (the only one, when no id is given).
    Down(Down),
    /// List the labs on this machine.
    List,
    /// Open a shell in a pod, a node, the switch or outside.
    Shell(Shell),
}

/// The variant.
#[derive(Args)]
pub(crate) struct Up {
    /// How the pods are attached: bridge or ptp.
    #[arg(long, default_value_t)]
    plugin: Plugin,
    /// How the nodes are joined: vxlan or routed.
    #[arg(long, default_value_t)]
    fabric: Fabric,
    /// What the Services are made of: iptables-nft, iptables-legacy or nftables.
    #[arg(long, default_value_t)]
    proxy: Proxy,
}

/// Which one.
#[derive(Args)]
pub(crate) struct Down {
    /// Its id, as `lab list` shows it.
    id: Option<String>,
    /// Every lab, also those of running tests.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

/// Where.
#[derive(Args)]
pub(crate) struct Shell {
    /// a1, b1, a2, b2, node1, node2, switch or outside.
    place: String,
    /// The lab's id, when there are several.
    #[arg(long)]
    lab: Option<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// Without root, or when the subcommand fails.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    if let Some(reason) = requirement::unavailable() {
        bail!("{reason}: run this with sudo");
    }
    match command {
        Command::Up(up) => raise(&up),
        Command::Down(down) => take_down(&down),
        Command::List => list(),
        Command::Shell(shell) => open_shell(&shell),
    }
}

fn raise(up: &Up) -> anyhow::Result<()> {
    packages::install_for_lab()?;
    process::build_lab_server()?;
    let config = Config {
        plugin: up.plugin,
        fabric: up.fabric,
        proxy: up.proxy,
    };
    let lab = Lab::up_detached(&config)?;
    // A reader that has seen enough (`| head`) is no error.
    let _ = print(&lab, &mut io::stdout().lock());
    Ok(())
}

fn take_down(down: &Down) -> anyhow::Result<()> {
    let ids: Vec<String> = if down.all {
        state::list()?.into_iter().map(|entry| entry.id).collect()
    } else {
        vec![the_one(down.id.as_deref())?]
    };
    for id in ids {
        state::down(&id)?;
        println!("lab {id} is down");
    }
    Ok(())
}

fn list() -> anyhow::Result<()> {
    for entry in state::list()? {
        let config = entry
            .config
            .map_or_else(|| "unreadable".to_owned(), |config| config.to_string());
        let owner = match entry.owner {
            None => "raised by `lab up`".to_owned(),
            Some(owner) if owner.is_alive() => format!("of process {}", owner.pid),
            Some(owner) => format!("abandoned by process {}", owner.pid),
        };
        println!("{}  {config:<30}  {owner}", entry.id);
    }
    Ok(())
}

/// The given id, or that of the only lab a person raised.
fn the_one(id: Option<&str>) -> anyhow::Result<String> {
    let entries = state::list()?;
    if let Some(id) = id {
        if entries.iter().all(|entry| entry.id != id) {
            bail!("there is no lab {id}: see `cargo xtask lab list`");
        }
        return Ok(id.to_owned());
    }
    let mut own = entries.iter().filter(|entry| entry.owner.is_none());
    match (own.next(), own.next()) {
        (Some(entry), None) => Ok(entry.id.clone()),
        (None, _) => bail!("no lab is up: `cargo xtask lab up` raises one"),
        _ => bail!("several labs are up: give the id of one (`cargo xtask lab list`)"),
    }
}

fn open_shell(shell: &Shell) -> anyhow::Result<()> {
    let lab = Lab::open(&the_one(shell.lab.as_deref())?)?;
    let netns = lab.find_netns(&shell.place).with_context(|| {
        format!(
            "the lab has no {}: it has a1, b1, a2, b2, node1, node2, switch, outside",
            shell.place
        )
    })?;
    let error = Process::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args(["bash", "--norc", "-i"])
        .env("PS1", format!("{netns}# "))
        .exec();
    Err(error).context("cannot run nsenter")
}

/// Says what stands where.
fn print(lab: &Lab, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "lab {} is up ({})\n", lab.id(), lab.config())?;
    let row = |out: &mut dyn Write, cells: [&dyn Display; 5]| {
        let [place, netns, ipv4, ipv6, veth] = cells.map(ToString::to_string);
        let row = format!("{place:<9} {netns:<18} {ipv4:<15} {ipv6:<22} {veth}");
        writeln!(out, "{}", row.trim_end())
    };
    let heads = [
        "place",
        "network namespace",
        "IPv4",
        "IPv6",
        "device on the node",
    ];
    row(out, heads.each_ref().map(|head| head as &dyn Display))?;
    for node in lab.nodes() {
        row(
            out,
            [&node.name, &node.netns, &node.ipv4, &node.ipv6, &"eth0"],
        )?;
        for pod in lab.pods().iter().filter(|pod| pod.node == node.name) {
            let name = format!("  pod {}", pod.name);
            row(out, [&name, &pod.netns, &pod.ipv4, &pod.ipv6, &pod.veth])?;
        }
    }
    let outside = lab.outside();
    row(
        out,
        [
            &"outside",
            &outside.netns,
            &outside.ipv4,
            &outside.ipv6,
            &"",
        ],
    )?;
    writeln!(
        out,
        "\nb1, b2 and outside serve HTTP on {HTTP_PORT} and DNS on {DNS_PORT}/udp\n"
    )?;
    print_services(lab, out)?;
    print_examples(lab, out)
}

fn print_services(lab: &Lab, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<26} {:<5} {:<11} {:<17} {:<5} {:<9} endpoints",
        "Service", "", "ClusterIP", "", "port", "node port"
    )?;
    for service in lab.services() {
        let endpoints = service.endpoints.iter();
        let endpoints: Vec<String> = endpoints
            .map(|endpoint| format!("{}:{}", endpoint.pod, endpoint.port))
            .collect();
        writeln!(
            out,
            "{:<26} {:<5} {:<11} {:<17} {:<5} {:<9} {}",
            service.full_name(),
            service.protocol,
            service.cluster_ip,
            service.cluster_ip6,
            service.port,
            service
                .node_port
                .map(|port| port.to_string())
                .unwrap_or_default(),
            if endpoints.is_empty() {
                "none".to_owned()
            } else {
                endpoints.join(" ")
            },
        )?;
    }
    Ok(())
}

fn print_examples(lab: &Lab, out: &mut impl Write) -> io::Result<()> {
    let (id, a1, outside) = (lab.id(), lab.netns("a1"), lab.netns("outside"));
    let (web, dns) = (lab.service("web-node2"), lab.service("kube-dns"));
    writeln!(out, "\ntry:")?;
    writeln!(out, "  ip netns exec {a1} curl http://{}/", web.cluster_ip)?;
    writeln!(
        out,
        "  ip netns exec {a1} curl 'http://[{}]/'",
        web.cluster_ip6
    )?;
    writeln!(
        out,
        "  ip netns exec {a1} dig @{} web.default +short",
        dns.cluster_ip
    )?;
    for node in lab.nodes() {
        writeln!(
            out,
            "  ip netns exec {outside} curl http://{}:30080/",
            node.ipv4
        )?;
    }
    writeln!(out, "  cargo xtask lab shell a1 --lab {id}")?;
    writeln!(out, "  cargo xtask lab down {id}")
}
