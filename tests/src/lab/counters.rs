//! Counters in a node's rules, as witnesses of what the rules did.
//!
//! iptables counts by itself; what it counted is read from `iptables -L -v -x -n --line-numbers`.
//! kube-proxy's nftables rules count nothing: [`Lab::count`] gives every rule that decides and every
//! element of a map a counter and leaves all else as it is. [`Lab::counted`] reads both, with
//! nothing of the tracer's.

mod iptables;
mod nft;

use std::collections::BTreeMap;

use super::proxy::Family;
use super::{Lab, Node, Proxy, command, rules};

/// Something that counts: a rule, a chain's policy or an element of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// `iptables`, `ip6tables` or `nft`.
    pub tool: &'static str,
    /// The table, as the tool calls it: `nat`, `ip kube-proxy`.
    pub table: String,
    /// The rule's chain, or the map.
    pub chain: String,
    /// What it is there.
    pub place: Place,
    /// What the rule does at its end, or where the element leads: for nft `goto`, `dnat`, `reject`,
    /// ...; for iptables the target, empty for a rule that has none, or the policy.
    pub end: String,
}

/// Where something counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A rule of iptables: its number.
    Number(u32),
    /// A rule of nftables.
    Handle(u64),
    /// An element of a map: its key, as nft writes it: `10.96.0.80 . tcp . 80`.
    Element(String),
    /// A chain's policy.
    Policy,
}

/// How many packets each has counted.
pub type Counts = BTreeMap<Counted, u64>;

impl Lab {
    /// Makes the node's rules count, where they do not by themselves. Handles become others.
    ///
    /// # Errors
    /// When nft fails.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn count(&self, node: &str) -> anyhow::Result<()> {
        if self.config().proxy != Proxy::Nftables {
            return Ok(());
        }
        let netns = &self.node(node).netns;
        let listed = self.run(command::in_netns(netns, "nft").args(["list", "ruleset"]))?;
        // In one transaction, so that there is no moment without rules.
        let text = format!("flush ruleset\n{}", nft::with_counters(&listed));
        command::run(command::in_netns(netns, "nft").args(["-f", "-"]), &text)?;
        Ok(())
    }

    /// What has counted so far.
    ///
    /// # Errors
    /// When a tool fails, or its listing is not understood.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn counted(&self, node: &str) -> anyhow::Result<Counts> {
        let node = self.node(node);
        if self.config().proxy == Proxy::Nftables {
            let mut nft = command::in_netns(&node.netns, "nft");
            let listed = self.run(nft.args(["-j", "list", "ruleset"]))?;
            return nft::counts(&listed);
        }
        let mut counts = Counts::new();
        for family in Family::ALL {
            for table in self.iptables_tables(node, family)? {
                let mut list = self.iptables_in(node, family, "");
                let list = list.args(["-t", &table, "-L", "-v", "-x", "-n", "--line-numbers"]);
                counts.extend(iptables::counts(family, &table, &self.run(list)?)?);
            }
        }
        Ok(counts)
    }

    /// The tables that exist: asking legacy iptables for another one would make it.
    fn iptables_tables(&self, node: &Node, family: Family) -> anyhow::Result<Vec<String>> {
        let saved = self.run(&mut self.iptables_in(node, family, "-save"))?;
        let names = saved.lines().filter_map(|line| line.strip_prefix('*'));
        Ok(names.map(str::to_owned).collect())
    }

    fn iptables_in(&self, node: &Node, family: Family, suffix: &str) -> std::process::Command {
        let directory = self.directory();
        rules::iptables(node, self.config().proxy, family, suffix, &directory)
    }
}

/// What has counted between two readings.
#[must_use]
pub fn since(before: &Counts, after: &Counts) -> Counts {
    let grown = after.iter().map(|(counted, packets)| {
        let before = before.get(counted).copied().unwrap_or_default();
        (counted.clone(), packets - before)
    });
    grown.filter(|(_, packets)| *packets > 0).collect()
}
