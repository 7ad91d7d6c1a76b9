//! What a lab's rules counted, against what the tracer named.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::Lab;
use tracer_tests::lab::counters::{self, Counted, Counts, Place};
use tracer_tests::trace::json::Step;

/// The counters of all nodes.
#[derive(Debug)]
pub(crate) struct Counters(BTreeMap<String, Counts>);

impl Counters {
    pub(crate) fn read(lab: &Lab) -> anyhow::Result<Self> {
        let nodes = lab.nodes().iter();
        let read = nodes.map(|node| Ok((node.name.clone(), lab.counted(&node.name)?)));
        read.collect::<anyhow::Result<_>>().map(Self)
    }

    /// What has counted since.
    pub(crate) fn since(self, before: &Self) -> Self {
        let nodes = self.0.into_iter();
        let grown = nodes.map(|(node, counts)| {
            let grown = counters::since(&before.0[&node], &counts);
            (node, grown)
        });
        Self(grown.collect())
    }

    /// What was named counted, and what counted and decides was named.
    pub(crate) fn confirm(&self, named: &Named<'_>) -> anyhow::Result<()> {
        for (node, steps, packets) in &named.rules {
            let counts = self.0.get(*node).context("no such node")?;
            if let [policy] = &steps[..]
                && (&*policy.kind, &*policy.source) == ("policy", "nftables")
            {
                // nft's policies do not count; the rule before it does, which only counts.
                let came =
                    |counted: &Counted| counted.chain == policy.chain && counted.end == "counter";
                let count: u64 = counts
                    .iter()
                    .filter(|(it, _)| came(it))
                    .map(|(_, n)| n)
                    .sum();
                ensure!(
                    count == *packets,
                    "not {packets} on {node}: {policy:#?}\n{self:#?}"
                );
                continue;
            }
            let counting: Vec<&Step> = counting(steps).collect();
            let (last, before) = counting.split_last().context("no steps")?;
            for step in before {
                let place = named.place(step)?;
                let counted = counts.iter().any(|(counted, _)| is(counted, &place));
                ensure!(
                    counted,
                    "on {node}, this has not counted: {step:#?}\n{self:#?}"
                );
            }
            let place = named.place(last)?;
            let counted = counts.iter().find(|(counted, _)| is(counted, &place));
            let count = counted.map_or(0, |(_, packets)| *packets);
            ensure!(
                count == *packets,
                "on {node}, this has counted {count}, not {packets}: {last:#?}\n{self:#?}"
            );
        }
        for (node, counts) in &self.0 {
            let known = named.places_on(node)?;
            for counted in counts.keys().filter(|counted| decides(counted)) {
                let place = (
                    counted.tool,
                    &*counted.table,
                    &*counted.chain,
                    counted.place.clone(),
                );
                ensure!(
                    known.contains(&place),
                    "on {node}, this has counted and is not named: {counted:?}\n{known:#?}"
                );
            }
        }
        Ok(())
    }
}

/// The steps that the lab gives a counter: what a rule finds in a named map counts instead of the
/// rule, and what it finds in a map of its own counts as the rule.
fn counting(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().enumerate().filter_map(|(at, step)| {
        let by_rule = |before: usize| steps[before].chain == step.chain;
        let own = step.kind == "element" && at.checked_sub(1).is_some_and(by_rule);
        (!own && !step.text.contains("vmap @")).then_some(step)
    })
}

/// Tool, table, chain, and where in it.
type Where<'a> = (&'static str, &'a str, &'a str, Place);

fn is(counted: &Counted, place: &Where<'_>) -> bool {
    (counted.tool, &*counted.table, &*counted.chain) == (place.0, place.1, place.2)
        && counted.place == place.3
}

/// Whether a rule makes an end of a packet, or leads to one: not what only marks or looks.
fn decides(counted: &Counted) -> bool {
    const ENDS: [&str; 8] = [
        "DNAT",
        "SNAT",
        "MASQUERADE",
        "REDIRECT",
        "DROP",
        "REJECT",
        "dnat",
        "masquerade",
    ];
    let end = counted.end.as_str();
    let to_service = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-"];
    let drop = ["drop", "reject"].contains(&end);
    // The element that leads to a Service's chain.
    let element = end == "goto" && matches!(counted.place, Place::Element(_));
    ENDS.contains(&end) || drop || element || to_service.iter().any(|chain| end.starts_with(chain))
}

/// The rules that the tracer named.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    lab: &'a Lab,
    ipv6: bool,
    /// The node, the way, and how many packets the last rule is said to have handled.
    rules: Vec<(&'a str, Vec<Step>, u64)>,
}

impl<'a> Named<'a> {
    pub(crate) fn new(lab: &'a Lab, ipv6: bool) -> Self {
        Self {
            lab,
            ipv6,
            rules: Vec::new(),
        }
    }

    /// A connection was translated there.
    pub(crate) fn translated(&mut self, node: &str, steps: &[Step]) -> anyhow::Result<()> {
        let node = &*self.lab.node(node).name;
        self.rules.push((node, steps.to_vec(), 1));
        Ok(())
    }

    /// A packet was dropped there.
    pub(crate) fn dropped(&mut self, netns: Option<&str>, steps: &[Step]) -> anyhow::Result<()> {
        let mut nodes = self.lab.nodes().iter();
        let node = nodes.find(|node| Some(&*node.netns) == netns);
        let node = &*node.context("not dropped on a node")?.name;
        let mut known = self.rules.iter_mut();
        match known.find(|known| known.0 == node && known.1 == steps) {
            Some((_, _, packets)) => *packets += 1,
            None => self.rules.push((node, steps.to_vec(), 1)),
        }
        Ok(())
    }

    /// How many packets were dropped.
    pub(crate) fn drops(&self) -> u64 {
        let drops = self.rules.iter().filter(|(_, steps, _)| {
            steps.last().is_some_and(|last| {
                ["DROP", "REJECT", "drop", "reject"]
                    .iter()
                    .any(|word| last.text.contains(word))
            })
        });
        drops.map(|(_, _, packets)| packets).sum()
    }

    fn place<'s>(&self, step: &'s Step) -> anyhow::Result<Where<'s>> {
        let tool = match (step.source.as_str(), self.ipv6) {
            ("iptables-nft" | "iptables-legacy", false) => "iptables",
            ("iptables-nft" | "iptables-legacy", true) => "ip6tables",
            ("nftables", _) => "nft",
            other => anyhow::bail!("whose rule is {other:?}?"),
        };
        let place = match step.kind.as_str() {
            "rule" if tool == "nft" => Place::Handle(step.handle.context("no handle")?),
            "rule" => Place::Number(step.number.context("no number")?),
            "policy" => Place::Policy,
            "element" => {
                let key = step.text.split(" : ").next().unwrap_or_default();
                let key = key.split(" counter ").next().unwrap_or_default();
                Place::Element(key.to_owned())
            }
            other => anyhow::bail!("what is {other}?"),
        };
        Ok((tool, &step.table, &step.chain, place))
    }

    fn places_on(&self, node: &str) -> anyhow::Result<BTreeSet<Where<'_>>> {
        let there = self.rules.iter().filter(|(known, _, _)| *known == node);
        there
            .flat_map(|(_, steps, _)| steps)
            .map(|step| self.place(step))
            .collect()
    }
}
