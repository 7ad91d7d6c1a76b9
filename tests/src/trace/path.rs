//! Which way a packet takes through a lab: from a notation that a person can check to every hop.
//!
//! A path is written as the places it visits and what they do to the packet:
//!
//! ```text
//! a1 > node1[prerouting dnat] > node2 > b2
//! a1 > node1[prerouting dnat, forward drop] > b1
//! lo@a1[input drop]
//! ```
//!
//! A drop ends the path; what comes after it is where the packet would have gone. `lo@a1` is a pod's
//! own loopback.
//!
//! What lies between follows from the lab's variant and from how the kernel forwards, as its
//! sources have it; that knowledge stands in [`node`](mod@node), one function for each way into and
//! out of a node. Nothing in here was recorded from a tracer.

mod node;

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};

use super::json::{Encapsulation, Kind, Stage};
use crate::lab::{Fabric, Lab, Plugin};

/// Where something happens: a network namespace and a device in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace's full name.
    pub netns: String,
    /// The device's name.
    pub device: String,
    /// The device's kind, a word of the contract.
    pub kind: &'static str,
}

/// A hop as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What it is.
    pub stage: Stage,
    /// Where it is.
    pub place: Place,
    /// What it does to the packet.
    pub translations: Vec<Kind>,
    /// The tunnel around the packet.
    pub tunnel: Option<Tunnel>,
}

/// A tunnel's ends: the nodes' addresses. The outer source port is the kernel's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The node that encapsulates.
    pub from: std::net::IpAddr,
    /// The node that decapsulates.
    pub to: std::net::IpAddr,
}

/// flannel's network identifier and port.
const VNI: u32 = 1;
const VXLAN_PORT: u16 = 8472;

impl Tunnel {
    /// Whether that is this tunnel.
    #[must_use]
    pub fn is(&self, seen: &Encapsulation) -> bool {
        let destination = SocketAddr::new(self.to, VXLAN_PORT);
        seen.vni == VNI && seen.src.ip() == self.from && seen.dst == destination
    }
}

/// One direction of a path: a place at which a packet changes hands, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Visit>);

/// A place on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visit {
    name: String,
    does: Vec<(Stage, Does)>,
}

/// What a hook does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Translate(Kind),
    Drop,
}

impl std::str::FromStr for Path {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let visits = text.split(" > ").map(visit);
        let path = visits.collect::<anyhow::Result<_>>();
        path.map(Self)
            .with_context(|| format!("the path {text:?} is not understood"))
    }
}

/// `node1`, `node1[prerouting dnat, forward drop]`.
fn visit(text: &str) -> anyhow::Result<Visit> {
    let (name, does) = match text.split_once('[') {
        None => (text, ""),
        Some((name, rest)) => (name, rest.strip_suffix(']').context("no ]")?),
    };
    let does = does
        .split(", ")
        .filter(|does| !does.is_empty())
        .map(|does| {
            let (hook, what) = does.split_once(' ').context("no hook")?;
            let what = match what {
                "drop" => Does::Drop,
                _ => Does::Translate(word(what)?),
            };
            Ok((word(hook)?, what))
        });
    Ok(Visit {
        name: name.to_owned(),
        does: does.collect::<anyhow::Result<_>>()?,
    })
}

/// A word of the contract.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    Ok(serde_json::from_value(text.into())?)
}

impl Visit {
    fn translations(&self, stage: Stage) -> Vec<Kind> {
        let at = self.does.iter().filter(|(hook, _)| *hook == stage);
        at.filter_map(|(_, does)| match does {
            Does::Translate(kind) => Some(*kind),
            Does::Drop => None,
        })
        .collect()
    }

    fn drops_at(&self) -> Option<Stage> {
        let drop = self.does.iter().find(|(_, does)| *does == Does::Drop);
        drop.map(|(stage, _)| *stage)
    }
}

/// The ways that packets of one direction may take through one lab.
#[derive(Clone, Debug)]
pub struct Ways {
    /// The usual way.
    pub usual: Vec<Expected>,
    /// Where a node sends the packet out by the device that it came in by, which may make it send
    /// an ICMP redirect to the packet's source.
    pub turns_back: Option<Place>,
    /// Where the way through the bridge's own queue branches off; see [`node`](mod@node).
    queued: Option<(usize, Vec<Expected>)>,
}

impl Ways {
    /// All ways, the usual first.
    #[must_use]
    pub fn all(&self) -> Vec<Vec<Expected>> {
        let mut ways = vec![self.usual.clone()];
        if let Some((at, detour)) = &self.queued {
            let mut way = self.usual.clone();
            way.splice(at..at, detour.iter().cloned());
            ways.push(way);
        }
        ways
    }
}

impl Path {
    /// The name of the first place and of the last.
    ///
    /// # Panics
    /// Never: a path has a place.
    #[must_use]
    pub fn ends(&self) -> (&str, &str) {
        let (first, last) = (self.0.first(), self.0.last());
        (
            first.map_or("", |visit| visit.name.as_str()),
            last.map_or("", |visit| visit.name.as_str()),
        )
    }

    /// The translations on the way, each with its stage and the full name of its namespace.
    #[must_use]
    pub fn translations(&self, lab: &Lab) -> Vec<(Kind, Stage, String)> {
        let mut found = Vec::new();
        for visit in &self.0 {
            for (stage, does) in &visit.does {
                if let Does::Translate(kind) = does {
                    found.push((*kind, *stage, lab.netns(&visit.name)));
                }
            }
        }
        found
    }

    /// The nodes on the way and what each does.
    #[must_use]
    pub fn nodes(&self) -> Vec<(&str, Vec<Kind>)> {
        let nodes = self.0.iter().filter(|visit| is_node(&visit.name));
        nodes
            .map(|visit| {
                let kinds = visit.does.iter().filter_map(|(_, does)| match does {
                    Does::Translate(kind) => Some(*kind),
                    Does::Drop => None,
                });
                (visit.name.as_str(), kinds.collect())
            })
            .collect()
    }

    /// Every hop of a packet that takes the path through the lab.
    ///
    /// # Errors
    /// For a path that does not exist in a lab.
    pub fn ways(&self, lab: &Lab, ipv6: bool) -> anyhow::Result<Ways> {
        let mut walk = Walk::new(lab, ipv6);
        match &self.0[..] {
            [only] if is_loopback(&only.name) => walk.loopback(only)?,
            visits => {
                for (at, visit) in visits.iter().enumerate() {
                    if at > 0 && visits.get(at - 1).is_some_and(|v| v.drops_at().is_some()) {
                        break;
                    }
                    let before = at.checked_sub(1).and_then(|at| visits.get(at));
                    walk.visit(before, visit, visits.get(at + 1))?;
                }
            }
        }
        Ok(walk.ways)
    }
}

fn is_node(name: &str) -> bool {
    name.starts_with("node")
}

/// `lo@a1`: a pod's own loopback.
fn is_loopback(name: &str) -> bool {
    name.starts_with("lo@")
}

/// The hops so far.
struct Walk<'a> {
    lab: &'a Lab,
    ipv6: bool,
    tunnel: Option<Tunnel>,
    ways: Ways,
}

impl<'a> Walk<'a> {
    fn new(lab: &'a Lab, ipv6: bool) -> Self {
        Self {
            lab,
            ipv6,
            tunnel: None,
            ways: Ways {
                usual: Vec::new(),
                turns_back: None,
                queued: None,
            },
        }
    }

    fn hop(&mut self, stage: Stage, place: &Place) {
        self.translate(stage, place, Vec::new());
    }

    fn hops(&mut self, place: &Place, stages: &[Stage]) {
        for stage in stages {
            self.hop(*stage, place);
        }
    }

    fn translate(&mut self, stage: Stage, place: &Place, translations: Vec<Kind>) {
        self.ways.usual.push(Expected {
            stage,
            place: place.clone(),
            translations,
            tunnel: self.tunnel,
        });
    }

    fn place(&self, name: &str, device: &str, kind: &'static str) -> Place {
        Place {
            netns: self.lab.netns(name),
            device: device.to_owned(),
            kind,
        }
    }

    fn visit(
        &mut self,
        before: Option<&Visit>,
        visit: &Visit,
        next: Option<&Visit>,
    ) -> anyhow::Result<()> {
        if let Some(before) = before
            && ![before, visit].iter().any(|visit| self.is_pod(&visit.name))
        {
            self.switch(before, visit);
        }
        if is_node(&visit.name) {
            return self.node(before, visit, next);
        }
        ensure!(visit.does.is_empty(), "only nodes do something to packets");
        let eth0 = self.place(&visit.name, "eth0", "veth");
        match (before, next) {
            (None, Some(_)) => self.hops(&eth0, &[Stage::Queue, Stage::Transmit]),
            (Some(_), None) => self.hops(&eth0, &[Stage::Receive, Stage::Socket]),
            _ => bail!("{} forwards nothing", visit.name),
        }
        Ok(())
    }

    /// A plain bridge, with one port for each machine; it runs no hooks (bridge-nf-call is off).
    fn switch(&mut self, from: &Visit, to: &Visit) {
        let (from, to) = (
            self.place("switch", &from.name, "veth"),
            self.place("switch", &to.name, "veth"),
        );
        self.hop(Stage::Receive, &from);
        self.hops(&to, &[Stage::Queue, Stage::Transmit]);
    }

    /// What is sent to the own loopback address is received there and goes no further.
    fn loopback(&mut self, visit: &Visit) -> anyhow::Result<()> {
        let pod = visit.name.strip_prefix("lo@").context("no pod")?;
        let lo = self.place(pod, "lo", "loopback");
        self.hops(&lo, &[Stage::Queue, Stage::Transmit, Stage::Receive]);
        let end = match visit.drops_at() {
            Some(_) => Stage::Drop,
            None => Stage::Socket,
        };
        self.hop(end, &lo);
        Ok(())
    }

    fn is_pod(&self, name: &str) -> bool {
        self.lab.pods().iter().any(|pod| pod.name == name)
    }

    fn bridges(&self) -> bool {
        self.lab.config().plugin == Plugin::Bridge
    }

    fn tunnels(&self) -> bool {
        self.lab.config().fabric == Fabric::Vxlan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_read() {
        let path: Path = "a1 > node1[prerouting dnat, forward drop] > b1"
            .parse()
            .unwrap();
        assert_eq!(path.ends(), ("a1", "b1"));
        assert_eq!(path.nodes(), [("node1", vec![Kind::Dnat])]);
        assert_eq!(path.0[1].drops_at(), Some(Stage::Forward));
        for wrong in ["a1 > node1[", "a1 > node1[dnat]", "a1 > node1[forward fly]"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }
}
