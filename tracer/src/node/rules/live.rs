//! Reading all rules of the calling thread's namespace, and only what changed of them.
//!
//! What it costs to know that nothing changed: for nftables and iptables-nft one question to the kernel
//! (its generation number), for IPVS reading its table, for legacy iptables a copy of its tables in
//! memory ([`legacy`]), for ipset listing the sets that rules refer to. Only when that tells of a change is a program run. A change while rules are
//! read is found by the next look, since what is compared is from before.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{
    held::Rules,
    ipset,
    iptables::{self, legacy},
    nftables,
    path::Source,
    subject::Family,
};
use crate::node::{
    ipvs,
    nf_tables::{self, Generation},
};

/// What is said where sets could not be read.
const NO_SETS: &str = "cannot list the ipsets that rules refer to; this needs CAP_NET_ADMIN: such rules stay undecided";

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Rules as they were read, with what tells whether they still are.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The rules.
    pub rules: Arc<Rules>,
    marks: Marks,
    /// Of `rules.notes`: those about nf_tables and those about legacy iptables.
    notes: [Vec<String>; 2],
    /// The sets that the rules refer to, and what they had.
    set_names: BTreeSet<String>,
    sets: Listed,
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

/// What ipset listed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Listed {
    /// It was not asked.
    #[default]
    Nothing,
    /// The text has this hash.
    Text(u64),
    /// It could not be asked.
    Failed,
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
        let mut next = Self {
            marks: Marks::look(),
            ..self.clone()
        };
        let changed = next.marks != self.marks;
        let mut rules = None;
        if changed {
            let read = rules.insert(Rules::clone(&self.rules));
            next.read(read, &self.marks);
        }
        let (listed, sets) = next.list_sets();
        if !changed && listed == self.sets {
            return None;
        }
        let mut rules = rules.unwrap_or_else(|| Rules::clone(&self.rules));
        if listed != self.sets {
            next.sets = listed;
            rules.ipsets = sets.map(Arc::new).unwrap_or_default();
        }
        let [nft, legacy] = &next.notes;
        let of_sets = match next.sets {
            Listed::Failed => vec![NO_SETS.to_owned()],
            _ => Vec::new(),
        };
        rules.notes = [&next.marks.notes, nft, legacy, &of_sets]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        next.rules = Arc::new(rules);
        Some(next)
    }

    /// Reads the forms of rules that changed.
    fn read(&mut self, rules: &mut Rules, before: &Marks) {
        let Self { marks, notes, .. } = self;
        if marks.generation != before.generation {
            notes[0].clear();
            iptables(rules, Source::IptablesNft, &mut notes[0]);
            rules.nftables = match nftables::live::read() {
                Ok(read) => Arc::new(read),
                Err(error) => {
                    notes[0].push(error.to_string());
                    Arc::default()
                }
            };
        }
        if marks.legacy != before.legacy {
            notes[1].clear();
            iptables(rules, Source::IptablesLegacy, &mut notes[1]);
        }
        if marks.ipvs != before.ipvs {
            rules.ipvs = Arc::clone(&marks.ipvs);
        }
        let iptables = rules.iptables.iter();
        let names = iptables.flat_map(|set| set.tables().sets());
        self.set_names = names.map(str::to_owned).collect();
    }

    /// What the sets have that rules refer to; parsed where that is other than before.
    fn list_sets(&self) -> (Listed, Option<ipset::Sets>) {
        if self.set_names.is_empty() {
            return (Listed::Nothing, None);
        }
        let names = self.set_names.iter().map(String::as_str).collect();
        let Ok(text) = ipset::live::read(&names) else {
            return (Listed::Failed, None);
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let listed = Listed::Text(hasher.finish());
        if listed == self.sets {
            return (listed, None);
        }
        match ipset::Sets::parse(&text) {
            Ok(sets) => (listed, Some(sets)),
            Err(_) => (Listed::Failed, None),
        }
    }

    /// Whether a look must copy whole tables or sets, which may take long.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        self.marks.legacy.iter().any(Option::is_some) || !self.set_names.is_empty()
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
            let sets = |reading: &Reading| reading.rules.ipsets.to_string();
            if run("ipset create s hash:ip") {
                assert!(more.again().is_none(), "no rule asks for it");
                assert!(run(
                    "iptables-nft -I FORWARD -m set --match-set s src -j DROP"
                ));
                let asked = more.again().unwrap();
                assert_eq!(sets(&asked), "create s hash:ip family inet\n");
                assert!(asked.again().is_none() && run("ipset add s 10.0.0.1"));
                let added = asked.again().unwrap();
                assert!(sets(&added).ends_with("add s 10.0.0.1\n"));
                assert!(
                    Arc::ptr_eq(&nft(&added), &nft(&asked)),
                    "only the set is other"
                );
                assert!(added.again().is_none() && added.rules.notes.is_empty());
            }
            assert!(run("iptables-nft -F FORWARD") && run("iptables-legacy -F INPUT"));
            assert_eq!(more.again().unwrap().rules.size(), 0);
        });
    }
}
