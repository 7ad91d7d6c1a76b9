//! What a machine says of itself before anything is attached.

use std::{io, os::fd::AsFd as _};

use crate::{
    kernel::{
        btf::{BtfError, KernelBtf},
        facts::Surroundings,
        rules,
        symbols::{Symbols, SymbolsError},
    },
    node::{
        inventory::{Entry, Inventory},
        netns, program,
        rules::live::Reading,
    },
    privilege::{self, Capabilities},
};

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) surroundings: Surroundings,
    pub(super) btf: Result<KernelBtf, BtfError>,
    pub(super) capabilities: io::Result<Capabilities>,
    /// Whether kernel functions have names.
    pub(super) symbols: Result<(), SymbolsError>,
    pub(super) namespaces: io::Result<Namespaces>,
    /// The programs that say rules, and whether they are there.
    pub(super) programs: Vec<(&'static str, bool)>,
}

/// Programs that say rules, and of what.
const PROGRAMS: [&str; 5] = [
    "iptables-nft-save",
    "iptables-legacy-save",
    "iptables-save",
    "nft",
    "ipset",
];
/// Namespaces whose rules are read to see whether they can be.
const READ: usize = 16;

/// The network namespaces, by what there is in them.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    pub(super) total: usize,
    /// Those with rules.
    pub(super) with_rules: Vec<String>,
    /// Those that may not be looked at.
    pub(super) unknown: Vec<String>,
    /// What else could not be looked at.
    pub(super) notes: Vec<String>,
    /// Rules that could not be read, and why.
    pub(super) unread: Vec<String>,
}

impl Machine {
    /// This one.
    pub(super) fn look() -> Self {
        let namespaces = privilege::with_file_access(Namespaces::look);
        Self {
            surroundings: Surroundings::look(),
            btf: KernelBtf::load(),
            capabilities: Capabilities::read(),
            symbols: Symbols::load().map(drop),
            namespaces: namespaces.map_err(io::Error::from).flatten(),
            programs: PROGRAMS
                .map(|name| (name, program::find(name).is_some()))
                .to_vec(),
        }
    }
}

impl Namespaces {
    fn look() -> io::Result<Self> {
        let inventory = Inventory::read()?;
        let mut found = Self {
            total: inventory.entries.len(),
            ..Self::default()
        };
        for entry in inventory.entries.values() {
            match has_rules(entry) {
                Some(true) => {
                    if found.with_rules.len() < READ {
                        found.unread.extend(unread(entry));
                    }
                    found.with_rules.push(name(entry));
                }
                Some(false) => {}
                None => found.unknown.push(name(entry)),
            }
        }
        found.notes = inventory.notes;
        found.unread.sort();
        found.unread.dedup();
        Ok(found)
    }
}

/// `None` when it may not be looked at. One that ended meanwhile has none.
fn has_rules(entry: &Entry) -> Option<bool> {
    match entry.open() {
        Ok(file) => netns::in_netns(file.as_fd(), rules::of_this_netns)
            .ok()?
            .ok()
            .map(rules::Rules::any),
        Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(false),
    }
}

/// What cannot be read of a namespace's rules, and why.
fn unread(entry: &Entry) -> Vec<String> {
    let Ok(file) = entry.open() else {
        return Vec::new();
    };
    let read = netns::in_netns(file.as_fd(), || Reading::default().again());
    let read = read.ok().flatten();
    read.map(|reading| reading.rules.notes.clone())
        .unwrap_or_default()
}

fn name(entry: &Entry) -> String {
    let name = entry.names.first().cloned();
    name.unwrap_or_else(|| format!("net:{}", entry.inode))
}
