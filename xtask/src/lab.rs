//! `cargo xtask lab`: a lab for a person.

use std::os::unix::process::CommandExt as _;
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tracer_tests::lab::{Config, DNS_PORT, Fabric, HTTP_PORT, Lab, Plugin, Proxy, state};

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
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("labs are made of network namespaces, which needs root: run this with sudo");
    }
    match command {
        Command::Up(up) => raise(&up),
        Command::Down(down) => take_down(&down),
        Command::List => list(),
        Command::Shell(shell) => open_shell(&shell),
    }
}

fn raise(up: &Up) -> anyhow::Result<()> {
    crate::build::lab_server()?;
    let config = Config {
        plugin: up.plugin,
        fabric: up.fabric,
        proxy: up.proxy,
    };
    let lab = Lab::up_detached(&config)?;
    print(&lab);
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
    if let Some(id) = id {
        return Ok(id.to_owned());
    }
    let entries = state::list()?;
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
fn print(lab: &Lab) {
    println!("lab {} is up ({})\n", lab.id(), lab.config());
    println!(
        "{:<9} {:<18} {:<16} {:<22} on the node",
        "place", "network namespace", "IPv4", "IPv6"
    );
    for node in lab.nodes() {
        println!(
            "{:<9} {:<18} {:<16} {:<22}",
            node.name, node.netns, node.ipv4, node.ipv6
        );
        for pod in lab.pods().iter().filter(|pod| pod.node == node.name) {
            println!(
                "  pod {:<3} {:<18} {:<16} {:<22} {}",
                pod.name, pod.netns, pod.ipv4, pod.ipv6, pod.veth
            );
        }
    }
    let outside = lab.outside();
    println!(
        "{:<9} {:<18} {:<16} {:<22}\n",
        "outside", outside.netns, outside.ipv4, outside.ipv6
    );
    println!("b1, b2 and outside serve HTTP on {HTTP_PORT} and DNS on {DNS_PORT}/udp\n");
    println!(
        "{:<26} {:<5} {:<11} {:<17} {:<5} {:<9} endpoints",
        "Service", "", "ClusterIP", "", "port", "node port"
    );
    for service in lab.services() {
        let endpoints: Vec<String> = service
            .endpoints
            .iter()
            .map(|endpoint| format!("{}:{}", endpoint.pod, endpoint.port))
            .collect();
        let endpoints = if endpoints.is_empty() {
            "none".to_owned()
        } else {
            endpoints.join(" ")
        };
        let node_port = service
            .node_port
            .map(|port| port.to_string())
            .unwrap_or_default();
        println!(
            "{:<26} {:<5} {:<11} {:<17} {:<5} {node_port:<9} {endpoints}",
            service.full_name(),
            service.protocol,
            service.cluster_ip,
            service.cluster_ip6,
            service.port,
        );
    }
    print_examples(lab);
}

fn print_examples(lab: &Lab) {
    let (a1, outside) = (lab.netns("a1"), lab.netns("outside"));
    let web = lab.service("web-node2");
    println!("\ntry:");
    println!("  ip netns exec {a1} curl http://{}/", web.cluster_ip);
    println!("  ip netns exec {a1} curl 'http://[{}]/'", web.cluster_ip6);
    println!(
        "  ip netns exec {a1} dig @{} web.default +short",
        lab.service("kube-dns").cluster_ip
    );
    for node in lab.nodes() {
        println!("  ip netns exec {outside} curl http://{}:30080/", node.ipv4);
    }
    println!("  cargo xtask lab shell a1 --lab {}", lab.id());
    println!("  cargo xtask lab down {}", lab.id());
}
