//! What keeps two nodes apart in one timeline, and puts them on one clock.
//!
//! The kernel's numbers (namespaces, buffers, connections, sockets, cgroups, drop reasons) mean something
//! on their own node only, and the initial network namespace has the same number on most. So those of
//! every node but the first are changed in bits that are the same in all such numbers, names of
//! namespaces get the node's before them, and times are those of the first node's clock.

use std::collections::BTreeMap;

use tracer_common::hook;

use crate::{
    event::Record,
    node::{
        pods::PodNetwork,
        reasons::DropReasons,
        snapshot::{Contents, Namespace},
    },
    source::{Loss, Notice, PacketBytes, SocketProcess, Statistics},
};

/// How a node's numbers and times are told from the others'.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    /// Which node, from 0.
    pub(super) number: u8,
    /// Its name.
    pub(super) name: String,
    /// By how many nanoseconds its clock is ahead.
    pub(super) ahead: i64,
    /// Its drop reasons as they are numbered here, where that differs.
    pub(super) reasons: BTreeMap<u32, u32>,
}

impl Apart {
    /// The most nodes: numbers of namespaces are from 0xf0000000 on (`PROC_DYNAMIC_FIRST`).
    pub(super) const MOST: usize = 15;

    /// A time of the node's clock on the first one's.
    pub(super) fn time(&self, time: u64) -> u64 {
        // What is nowhere in time stays so.
        if time == 0 || time == u64::MAX {
            return time;
        }
        time.saturating_add_signed(self.ahead.saturating_neg())
    }

    /// A time of the first node's clock on this one's.
    pub(super) fn own_time(&self, time: u64) -> u64 {
        time.saturating_add_signed(self.ahead)
    }

    pub(super) fn netns(&self, netns: u32) -> u32 {
        if netns == 0 {
            return 0;
        }
        netns.wrapping_sub(u32::from(self.number) << 28)
    }

    /// A kernel's address, or another number of 64 bits.
    fn number(&self, number: u64) -> u64 {
        if number == 0 {
            return 0;
        }
        number ^ (u64::from(self.number) << 56)
    }

    /// A kernel's address as that kernel has it, if it is of this node.
    pub(super) fn own_address(&self, address: u64) -> u64 {
        self.number(address)
    }

    fn reason(&self, reason: u32) -> u32 {
        self.reasons.get(&reason).copied().unwrap_or(reason)
    }

    pub(super) fn record(&self, record: &mut Record) {
        match record {
            Record::Event(event) => {
                let record = &mut event.record;
                record.time = self.time(record.time);
                record.netns = self.netns(record.netns);
                record.skb = self.number(record.skb);
                // The low bits say what the packet is to its connection.
                if record.conntrack > 7 {
                    record.conntrack = self.number(record.conntrack);
                }
                record.detail = self.number(record.detail);
                if record.hook == hook::DROP {
                    record.reason = self.reason(record.reason);
                }
            }
            Record::Conntrack(tuples) => {
                tuples.time = self.time(tuples.time);
                tuples.netns = self.netns(tuples.netns);
                tuples.conntrack = self.number(tuples.conntrack);
            }
        }
    }

    fn process(&self, process: SocketProcess) -> SocketProcess {
        let cgroup = self.number(process.cgroup);
        SocketProcess { cgroup, ..process }
    }

    pub(super) fn notice(&self, notice: Notice) -> Notice {
        match notice {
            Notice::Began { time } => Notice::Began {
                time: self.time(time),
            },
            Notice::NetfilterAttached { netns, time } => Notice::NetfilterAttached {
                netns: self.netns(netns),
                time: self.time(time),
            },
            Notice::NetfilterDetached { netns, time } => Notice::NetfilterDetached {
                netns: self.netns(netns),
                time: self.time(time),
            },
            Notice::NetfilterEverywhere { time } => Notice::NetfilterEverywhere {
                time: self.time(time),
            },
            Notice::Owner { cookie, process } => Notice::Owner {
                cookie: self.number(cookie),
                process: self.process(process),
            },
            Notice::Socket {
                netns,
                protocol,
                local,
                remote,
                process,
            } => Notice::Socket {
                netns: self.netns(netns),
                protocol,
                local,
                remote,
                process: self.process(process),
            },
            Notice::Listeners {
                netns,
                protocol,
                port,
                time,
                sockets,
            } => Notice::Listeners {
                netns: self.netns(netns),
                protocol,
                port,
                time: self.time(time),
                sockets,
            },
            Notice::Bytes(bytes) => Notice::Bytes(PacketBytes {
                time: self.time(bytes.time),
                skb: self.number(bytes.skb),
                netns: self.netns(bytes.netns),
                ..bytes
            }),
            Notice::Loss(loss) => Notice::Loss(Loss {
                after: self.time(loss.after),
                before: self.time(loss.before),
                ..loss
            }),
            Notice::Statistics(statistics) => Notice::Statistics(Box::new(Statistics {
                time: self.time(statistics.time),
                ..*statistics
            })),
            Notice::Problem(problem) => Notice::Problem(format!("{}: {problem}", self.name)),
        }
    }

    /// What the node knew, with its name before those of its namespaces.
    pub(super) fn contents(&self, contents: &Contents) -> Contents {
        let mut contents = contents.clone();
        for namespace in &mut contents.namespaces {
            self.namespace(namespace);
        }
        for past in &mut contents.past {
            self.namespace(&mut past.namespace);
            past.last = self.time(past.last);
            past.until = self.time(past.until);
        }
        for pod in &mut contents.pods {
            if let PodNetwork::Own(inode) = &mut pod.network {
                *inode = self.netns(*inode);
            }
            for cgroup in &mut pod.cgroups {
                *cgroup = self.number(*cgroup);
            }
        }
        contents
    }

    fn namespace(&self, namespace: &mut Namespace) {
        namespace.inode = self.netns(namespace.inode);
        namespace.since = self.time(namespace.since);
        let own = namespace.display_name().into_owned();
        if namespace.names.is_empty() {
            namespace.names.push(own);
        }
        for name in &mut namespace.names {
            name.insert(0, '/');
            name.insert_str(0, &self.name);
        }
        for link in namespace.links.values_mut() {
            if let Some(peer) = &mut link.peer {
                peer.netns = self.netns(peer.netns);
            }
        }
        namespace.rules.on_clock(|time| self.time(time));
    }
}

/// Drop reasons of all nodes in one table, and how those of each are numbered in it where that differs.
pub(super) fn reasons<'a>(
    all: impl Iterator<Item = &'a DropReasons>,
) -> (DropReasons, Vec<BTreeMap<u32, u32>>) {
    let mut table = DropReasons::default();
    let mut numbered = Vec::new();
    for own in all {
        if table.is_empty() {
            table = own.clone();
            numbered.push(BTreeMap::new());
            continue;
        }
        let mut others = BTreeMap::new();
        for (number, name) in own.iter() {
            let here = table.number(name).unwrap_or_else(|| table.add(name));
            if here != number {
                others.insert(number, here);
            }
        }
        numbered.push(others);
    }
    (table, numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_two_nodes_are_never_the_same_and_zero_stays_zero() {
        let second = Apart {
            number: 1,
            ahead: 500,
            ..Apart::default()
        };
        assert_eq!(second.netns(4_026_531_840), 0xe000_0000);
        assert_eq!((second.netns(0), second.number(0)), (0, 0));
        let address = 0xffff_8881_0000_1200;
        assert_ne!(second.number(address), address);
        assert_eq!(second.own_address(second.number(address)), address);
        assert_eq!(second.own_time(second.time(10_000)), 10_000);
        assert_eq!((second.time(0), second.time(u64::MAX)), (0, u64::MAX));
    }

    #[test]
    fn reasons_keep_their_names_whatever_their_numbers() {
        let of = |names: &[(u32, &str)]| {
            let names = names
                .iter()
                .map(|(number, name)| (*number, (*name).to_owned()));
            DropReasons::new(names.collect(), BTreeMap::new())
        };
        let (one, two) = (
            of(&[(2, "A"), (3, "B")]),
            of(&[(2, "B"), (3, "C"), (4, "A")]),
        );
        let (table, numbered) = reasons([&one, &two].into_iter());
        let named = |node: usize, number: u32| {
            let here = numbered[node].get(&number).copied().unwrap_or(number);
            table.name(here).unwrap().into_owned()
        };
        assert_eq!([named(0, 2), named(0, 3)], ["A", "B"]);
        assert_eq!([named(1, 2), named(1, 3), named(1, 4)], ["B", "C", "A"]);
    }
}
