//! Joining what each namespace says of itself into one snapshot.
//!
//! A link names its other end in its own namespace's terms: an index, and an id which that
//! namespace gives to the other one. A [`Table`] keeps what is known of those ids. The kernel
//! answers which id a namespace has, not which namespace an id means, so ids are learned one
//! question at a time (`super::read`); what a veth's one end tells is used for the other.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    cluster::Cluster,
    inventory::{Entry, Inventory},
    link::{LinkId, LinkKind},
    links::RawLink,
    lives::Lives,
    network::Network,
    pods::Pod,
    snapshot::{Contents, Namespace, Snapshot},
};

/// What one namespace says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Its devices, by index.
    pub(super) links: BTreeMap<u32, RawLink>,
    /// The namespaces that its ids mean, by inode number.
    pub(super) ids: BTreeMap<i32, u32>,
    /// What it does with packets.
    pub(super) network: Network,
}

/// The tables of all namespaces that could be read, by inode number.
pub(super) type Tables = BTreeMap<u32, Table>;

impl Table {
    /// The ids of namespaces that its links name and that are not known.
    pub(super) fn unknown_ids(&self) -> Vec<i32> {
        let ids = self.links.values().filter_map(|raw| raw.other?.netnsid);
        let mut unknown: Vec<i32> = ids.filter(|id| !self.ids.contains_key(id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// The device that a link of this table, in namespace `own`, refers to.
    fn other_end(&self, own: u32, raw: &RawLink) -> Option<LinkId> {
        let other = raw.other?;
        let netns = match other.netnsid {
            None => own,
            Some(id) => *self.ids.get(&id)?,
        };
        let index = other.index;
        Some(LinkId { netns, index })
    }

    /// The other ends of its veths: the index here and the device there.
    pub(super) fn veth_peers(&self, own: u32) -> impl Iterator<Item = (u32, LinkId)> {
        let veths = self
            .links
            .values()
            .filter(|raw| raw.link.kind == LinkKind::Veth);
        veths.filter_map(move |raw| Some((raw.link.index, self.other_end(own, raw)?)))
    }
}

/// Forgets namespaces, also as the meaning of ids: both numbers are used again.
pub(super) fn forget(tables: &mut Tables, gone: &[u32]) {
    tables.retain(|inode, _| !gone.contains(inode));
    for table in tables.values_mut() {
        table.ids.retain(|_, inode| !gone.contains(inode));
    }
}

/// Uses what is known of a namespace's ids for the namespaces at the other ends of its veths.
pub(super) fn learn_by_symmetry(tables: &mut Tables, from: u32) {
    let Some(table) = tables.get(&from) else {
        return;
    };
    let pairs: Vec<_> = table
        .veth_peers(from)
        .filter(|pair| pair.1.netns != from)
        .collect();
    for (index, peer) in pairs {
        let Some(table) = tables.get_mut(&peer.netns) else {
            continue;
        };
        // The other table may be of another moment: believe it only if it points back.
        if let Some(raw) = table.links.get(&peer.index)
            && raw.link.kind == LinkKind::Veth
            && let Some(other) = raw.other.filter(|other| other.index == index)
            && let Some(id) = other.netnsid
        {
            table.ids.insert(id, from);
        }
    }
}

/// The namespaces with the most devices first: those have the most to tell about the others, and
/// are most often what an id means.
pub(super) fn largest_first(tables: &Tables) -> Vec<u32> {
    let mut inodes: Vec<u32> = tables.keys().copied().collect();
    inodes.sort_by_key(|inode| std::cmp::Reverse(tables[inode].links.len()));
    inodes
}

/// The snapshot that all of it makes together.
pub(super) fn snapshot(
    inventory: &Inventory,
    tables: &Tables,
    (lives, pods, cluster): (&Lives, &[Pod], Option<Arc<Cluster>>),
    notes: &[String],
) -> Snapshot {
    let entries = inventory.entries.values();
    let namespaces = entries.map(|entry| namespace(entry, tables, lives));
    Snapshot::from(Contents {
        namespaces: namespaces.collect(),
        past: lives.past().cloned().collect(),
        pods: pods.to_vec(),
        cluster,
        notes: inventory.notes.iter().chain(notes).cloned().collect(),
    })
}

/// What is known of one namespace.
pub(super) fn namespace(entry: &Entry, tables: &Tables, lives: &Lives) -> Namespace {
    let life = lives.of(entry.inode);
    let mounts = entry.mounts.iter();
    Namespace {
        inode: entry.inode,
        names: entry.names.clone(),
        mounts: mounts
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        initial: entry.initial,
        own: entry.own,
        process: entry.process.clone(),
        pod: life.and_then(|life| Some(life.pod.as_ref()?.name.clone())),
        since: life.map_or(0, |life| life.since),
        rules: life.map(|life| life.rules.clone()).unwrap_or_default(),
        links: tables
            .get(&entry.inode)
            .map(|table| links_of(entry.inode, table))
            .unwrap_or_default(),
        network: tables
            .get(&entry.inode)
            .map(|table| table.network.clone())
            .unwrap_or_default(),
    }
}

fn links_of(own: u32, table: &Table) -> BTreeMap<u32, super::link::Link> {
    let mut peers: BTreeMap<u32, LinkId> = table.veth_peers(own).collect();
    let with_peer = |(&index, raw): (&u32, &RawLink)| {
        let mut link = raw.link.clone();
        link.peer = peers.remove(&index);
        (index, link)
    };
    table.links.iter().map(with_peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{link::Link, links::Other};

    /// A veth with its index, its other end's index and the id of that one's namespace.
    fn veth(index: u32, other: u32, netnsid: Option<i32>) -> (u32, RawLink) {
        let link = Link {
            index,
            kind: LinkKind::Veth,
            ..Link::default()
        };
        let other = Some(Other {
            index: other,
            netnsid,
        });
        (index, RawLink { link, other })
    }

    fn table(links: impl IntoIterator<Item = (u32, RawLink)>) -> Table {
        Table {
            links: links.into_iter().collect(),
            ..Table::default()
        }
    }

    /// A node (1) with two pods (2, 3) whose devices have the same numbers.
    fn node() -> Tables {
        BTreeMap::from([
            (1, table([veth(5, 2, Some(0)), veth(6, 2, Some(1))])),
            (2, table([veth(2, 5, Some(0))])),
            (
                3,
                table([veth(2, 6, Some(0)), veth(8, 9, None), veth(9, 8, None)]),
            ),
        ])
    }

    #[test]
    fn one_end_tells_the_other() {
        let mut tables = node();
        assert_eq!(largest_first(&tables), [3, 1, 2]);
        assert_eq!(tables[&1].unknown_ids(), [0, 1]);
        tables.get_mut(&1).unwrap().ids = BTreeMap::from([(0, 2), (1, 3)]);
        learn_by_symmetry(&mut tables, 1);
        assert_eq!(tables[&2].ids, BTreeMap::from([(0, 1)]));
        assert_eq!(tables[&3].ids, BTreeMap::from([(0, 1)]));
        assert!(tables[&3].unknown_ids().is_empty());
    }

    #[test]
    fn a_table_that_does_not_point_back_is_not_believed() {
        let mut tables = node();
        tables.get_mut(&1).unwrap().ids = BTreeMap::from([(0, 3), (1, 2)]);
        learn_by_symmetry(&mut tables, 1);
        assert!(tables[&2].ids.is_empty() && tables[&3].ids.is_empty());
    }

    #[test]
    fn peers_are_resolved_and_unknown_ones_are_not_guessed() {
        let mut tables = node();
        tables.get_mut(&1).unwrap().ids = BTreeMap::from([(0, 2)]);
        let entry = |inode| Entry {
            inode,
            ..Entry::default()
        };
        let inventory = Inventory {
            entries: [1, 2, 3, 4].map(|inode| (inode, entry(inode))).into(),
            notes: vec!["of the inventory".to_owned()],
        };
        let notes = ["of the tables".to_owned()];
        let node = snapshot(&inventory, &tables, (&Lives::default(), &[], None), &notes);
        let peer = |netns, index| node.link(netns, index).unwrap().peer;
        assert_eq!(peer(1, 5), Some(LinkId { netns: 2, index: 2 }));
        assert_eq!(peer(1, 6), None);
        assert_eq!(peer(2, 2), None);
        assert_eq!(peer(3, 8), Some(LinkId { netns: 3, index: 9 }));
        assert!(node.namespace(4).unwrap().links.is_empty());
        assert_eq!(node.notes(), ["of the inventory", "of the tables"]);
    }

    #[test]
    fn a_namespace_that_is_gone_is_forgotten_as_a_meaning_too() {
        let mut tables = node();
        tables.get_mut(&1).unwrap().ids = BTreeMap::from([(0, 2), (1, 3)]);
        forget(&mut tables, &[2]);
        assert_eq!(tables.len(), 2);
        assert_eq!(tables[&1].ids, BTreeMap::from([(1, 3)]));
    }
}
