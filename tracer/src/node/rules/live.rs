//! Reading all rules of the calling thread's namespace, and only what changed of them.
//!
//! What it costs to know that nothing changed: for nftables and iptables-nft one question to the kernel
//! (its generation number), for IPVS reading its table, for legacy iptables a copy of its tables in
//! memory ([`legacy`]). Only when that tells of a change is a program run. A change while rules are
//! read is found by the next look, since what is compared is from before.

use std::sync::Arc;

use super::{
    held::Rules,
    iptables::{self, legacy},
    nftables,
    path::Source,
    subject::Family,
};
use crate::node::{
    ipvs,
    nf_tables::{self, Generation},
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Rules as they were read, with what tells whether they still are.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The rules.
    pub rules: Arc<Rules>,
    marks: Marks,
    /// Of `rules.notes`: those about nf_tables and those about legacy iptables.
    notes: [Vec<String>; 2],
}

/// What tells whether rules changed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Marks {
    generation: Option<Generation>,
    legacy: [Option<u64>; 2],
    ipvs: Arc<ipvs::Table>,
    /// What could not be asked.
    notes: Vec<String>,
}

impl Marks {
    /// Those of the calling thread's namespace.
    fn look() -> Self {
        let mut notes = Vec::new();
        let mut marks = Self::default();
        if nf_tables::present() {
            match nf_tables::generation() {
                Ok(generation) => marks.generation = Some(generation),
                Err(error) => notes.push(format!("cannot ask nf_tables: {error}")),
            }
        }
        for (mark, family) in marks.legacy.iter_mut().zip(FAMILIES) {
            match legacy::fingerprint(family) {
                Ok(found) => *mark = found,
                Err(error) => notes.push(format!("cannot ask legacy iptables: {error}")),
            }
        }
        match ipvs::Table::of_this_netns() {
            Ok(table) => marks.ipvs = Arc::new(table),
            Err(error) => notes.push(format!("cannot read IPVS's table: {error}")),
        }
        marks.notes = notes;
        marks
    }
}

impl Reading {
    /// Reads what is other than in `self` by now; `None` when nothing is.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        let marks = Marks::look();
        if marks == self.marks {
            return None;
        }
        let mut rules = Rules::clone(&self.rules);
        let mut notes = self.notes.clone();
        if marks.generation != self.marks.generation {
            notes[0].clear();
            iptables(&mut rules, Source::IptablesNft, &mut notes[0]);
            rules.nftables = match nftables::live::read() {
                Ok(read) => Arc::new(read),
                Err(error) => {
                    notes[0].push(error.to_string());
                    Arc::default()
                }
            };
        }
        if marks.legacy != self.marks.legacy {
            notes[1].clear();
            iptables(&mut rules, Source::IptablesLegacy, &mut notes[1]);
        }
        if marks.ipvs != self.marks.ipvs {
            rules.ipvs = Arc::clone(&marks.ipvs);
        }
        rules.notes = [&marks.notes, &notes[0], &notes[1]]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        Some(Self {
            rules: Arc::new(rules),
            marks,
            notes,
        })
    }

    /// Whether a look must copy whole tables, which may take long.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        self.marks.legacy.iter().any(Option::is_some)
    }
}

/// Reads one back end's rules anew.
fn iptables(rules: &mut Rules, source: Source, notes: &mut Vec<String>) {
    use super::evaluate::RuleSet as _;
    rules.iptables.retain(|set| set.source() != source);
    for family in FAMILIES {
        match iptables::live::read(family, source) {
            Ok(Some(set)) => rules.iptables.push(Arc::new(set)),
            Ok(None) => {}
            Err(error) => notes.push(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{in_new_netns, root, run};

    #[test]
    fn only_what_changed_is_read_again() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            let none = Reading::default();
            let empty = none.again().unwrap_or(none);
            assert!(empty.rules.is_empty(), "{:?}", empty.rules);
            assert!(empty.again().is_none());
            if !run("iptables-nft -A FORWARD -j DROP") || !run("iptables-legacy -A INPUT -j DROP") {
                return println!("skipped: iptables does not work here");
            }
            let both = empty.again().unwrap();
            assert_eq!((both.rules.iptables.len(), both.rules.size()), (2, 2));
            assert!(both.again().is_none());
            assert!(run("iptables-legacy -I INPUT -j ACCEPT"));
            let more = both.again().unwrap();
            assert_eq!(more.rules.size(), 3);
            let nft = |reading: &Reading| {
                use crate::node::rules::evaluate::RuleSet as _;
                let sets = reading.rules.iptables.iter();
                let mut nft = sets.filter(|set| set.source() == Source::IptablesNft);
                Arc::clone(nft.next().unwrap())
            };
            assert!(Arc::ptr_eq(&nft(&more), &nft(&both)), "nft's is the same");
            assert!(run("iptables-nft -F FORWARD") && run("iptables-legacy -F INPUT"));
            assert_eq!(more.again().unwrap().rules.size(), 0);
        });
    }
}
