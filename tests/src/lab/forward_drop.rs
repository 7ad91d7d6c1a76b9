//! A rule that drops forwarded packets, in the form of the lab's other rules.

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use super::proxy::Family;
use super::{Lab, Node, Proxy, command, rules};

/// Tells the nftables tables of several rules apart.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// An installed rule: TCP to one address and port is dropped in a node's FORWARD hook. Dropping
/// the value removes it.
#[derive(Debug)]
pub struct ForwardDrop<'a> {
    lab: &'a Lab,
    node: &'a Node,
    destination: IpAddr,
    port: u16,
    /// The nftables table.
    table: String,
    installed: bool,
}

impl Lab {
    /// Drops forwarded TCP packets to `destination`:`port` (as FORWARD sees them, translated) on
    /// the node: `-j DROP` as the first rule of FORWARD, or a table of its own with nftables.
    ///
    /// # Errors
    /// When the tool fails.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn drop_forward(
        &self,
        node: &str,
        destination: IpAddr,
        port: u16,
    ) -> anyhow::Result<ForwardDrop<'_>> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut rule = ForwardDrop {
            lab: self,
            node: self.node(node),
            destination,
            port,
            table: format!("lab-drop-{number}"),
            installed: false,
        };
        rule.install()?;
        Ok(rule)
    }
}

impl ForwardDrop<'_> {
    fn install(&mut self) -> anyhow::Result<()> {
        if self.lab.config().proxy == Proxy::Nftables {
            let ip = match self.family() {
                Family::Ipv4 => "ip",
                Family::Ipv6 => "ip6",
            };
            let text = format!(
                "table inet {} {{\n chain forward {{\n  type filter hook forward priority filter; policy accept;\n  \
                 {ip} daddr {} tcp dport {} counter drop\n }}\n}}\n",
                self.table, self.destination, self.port
            );
            let mut nft = command::in_netns(&self.node.netns, "nft");
            command::run(nft.args(["-f", "-"]), &text)?;
        } else {
            self.run(self.iptables("-I"))?;
        }
        self.installed = true;
        Ok(())
    }

    /// How many packets it has dropped.
    ///
    /// # Errors
    /// When the tool fails, or its answer is not understood.
    pub fn packets(&self) -> anyhow::Result<u64> {
        let counter = if self.lab.config().proxy == Proxy::Nftables {
            let mut nft = command::in_netns(&self.node.netns, "nft");
            let text = self.run(nft.args(["list", "table", "inet", &self.table]))?;
            // ... counter packets 3 bytes 180 drop
            text.split_once("counter packets ")
                .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        } else {
            let mut list = self.tool("");
            let text = self.run(list.args(["-L", "FORWARD", "1", "-v", "-x", "-n"]))?;
            text.split_ascii_whitespace()
                .next()
                .and_then(|count| count.parse().ok())
        };
        counter.context("no packet count in the tool's answer")
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn remove(mut self) -> anyhow::Result<()> {
        self.uninstall()
    }

    fn uninstall(&mut self) -> anyhow::Result<()> {
        self.installed = false;
        if self.lab.config().proxy == Proxy::Nftables {
            let mut nft = command::in_netns(&self.node.netns, "nft");
            self.run(nft.args(["delete", "table", "inet", &self.table]))?;
        } else {
            self.run(self.iptables("-D"))?;
        }
        Ok(())
    }

    fn family(&self) -> Family {
        match self.destination {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    fn tool(&self, suffix: &str) -> Command {
        let (form, directory) = (self.lab.config().proxy, self.lab.directory());
        rules::iptables(self.node, form, self.family(), suffix, &directory)
    }

    fn iptables(&self, action: &str) -> Command {
        let (destination, port) = (self.destination.to_string(), self.port.to_string());
        let mut iptables = self.tool("");
        iptables.args([
            action,
            "FORWARD",
            "-d",
            &destination,
            "-p",
            "tcp",
            "--dport",
            &port,
        ]);
        iptables.args([
            "-m",
            "comment",
            "--comment",
            "dropped by the lab",
            "-j",
            "DROP",
        ]);
        iptables
    }

    fn run(&self, mut command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<String> {
        self.lab.run(command.borrow_mut())
    }
}

impl Drop for ForwardDrop<'_> {
    fn drop(&mut self) {
        if self.installed
            && let Err(error) = self.uninstall()
        {
            eprintln!("{error:#}");
        }
    }
}
