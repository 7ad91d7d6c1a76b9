//! Finding chains, rules and sets by name.

use std::collections::HashMap;

use super::{
    json::Json,
    model::{Chain, Family, Object, Rule, Ruleset, Set, Statement},
    set,
};

/// Places of objects in a listing.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) tables: Vec<TableEntry>,
    pub(super) chains: Vec<ChainEntry>,
    pub(super) sets: Vec<SetEntry>,
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct TableEntry {
    pub(super) family: Family,
    pub(super) name: Box<str>,
    /// Its chains, by name.
    pub(super) chains: HashMap<Box<str>, usize>,
    /// Its sets and maps, by name.
    pub(super) sets: HashMap<Box<str>, usize>,
    /// iptables-nft made it.
    pub(super) of_iptables: bool,
}

/// A chain.
#[derive(Clone, Debug)]
pub(super) struct ChainEntry {
    /// Its table.
    pub(super) table: usize,
    /// Its place among the objects.
    object: usize,
    /// The places of its rules among the objects, in order.
    pub(super) rules: Vec<usize>,
}

/// A set or map.
#[derive(Clone, Debug)]
pub(super) struct SetEntry {
    /// Its place among the objects.
    object: usize,
    pub(super) keys: set::Index,
}

/// Tables that iptables-nft makes, and what it calls its base chains.
pub(super) const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
pub(super) const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

impl Index {
    pub(super) fn of(listing: &Ruleset) -> Self {
        let mut index = Self::default();
        let mut known = HashMap::new();
        for (place, object) in listing.objects.iter().enumerate() {
            match object {
                Object::Table(table) => {
                    index.table(&mut known, table.family, &table.name);
                }
                Object::Chain(chain) => {
                    let table = index.table(&mut known, chain.family, &chain.table);
                    index.chain(table, place, &chain.name);
                }
                Object::Set(set) => {
                    let table = index.table(&mut known, set.family, &set.table);
                    index.set(table, place, set);
                }
                Object::Rule(_) | Object::Other { .. } => {}
            }
        }
        for (place, object) in listing.objects.iter().enumerate() {
            if let Object::Rule(rule) = object {
                index.rule(&known, place, rule);
            }
        }
        index.find_those_of_iptables(listing);
        index
    }

    fn table<'l>(
        &mut self,
        known: &mut HashMap<(Family, &'l str), usize>,
        family: Family,
        name: &'l str,
    ) -> usize {
        let next = self.tables.len();
        let number = *known.entry((family, name)).or_insert(next);
        if number == next {
            self.tables.push(TableEntry {
                family,
                name: name.into(),
                chains: HashMap::new(),
                sets: HashMap::new(),
                of_iptables: false,
            });
        }
        number
    }

    fn chain(&mut self, table: usize, object: usize, name: &str) {
        let chains = &mut self.tables[table].chains;
        chains.entry(name.into()).or_insert(self.chains.len());
        self.chains.push(ChainEntry {
            table,
            object,
            rules: Vec::new(),
        });
    }

    fn set(&mut self, table: usize, object: usize, set: &Set) {
        let mut keys = set::Index::of_set(set);
        keys.changing = match &set.flags {
            Some(Json::Array(flags)) => flags.contains(&Json::text("dynamic")),
            Some(flag) => flag.as_text() == Some("dynamic"),
            None => false,
        };
        let sets = &mut self.tables[table].sets;
        sets.entry(set.name.clone()).or_insert(self.sets.len());
        self.sets.push(SetEntry { object, keys });
    }

    fn rule(&mut self, known: &HashMap<(Family, &str), usize>, place: usize, rule: &Rule) {
        let Some(&table) = known.get(&(rule.family, &*rule.table)) else {
            return;
        };
        let table = &mut self.tables[table];
        for statement in &rule.statements {
            // The listing of older versions does not say that a set is dynamic.
            if let Some(name) = changed_set(statement)
                && let Some(&set) = table.sets.get(name)
            {
                self.sets[set].keys.changing = true;
            }
            table.of_iptables |=
                matches!(statement, Statement::Opaque { name, .. } if &**name == "xt");
        }
        if let Some(&chain) = table.chains.get(&rule.chain) {
            self.chains[chain].rules.push(place);
        }
    }

    /// Those with an opaque match of iptables were found by their rules; others by their names.
    fn find_those_of_iptables(&mut self, listing: &Ruleset) {
        for number in 0..self.tables.len() {
            let table = &self.tables[number];
            let named = matches!(table.family, Family::Ip | Family::Ip6)
                && IPTABLES.contains(&&*table.name)
                && table.sets.is_empty();
            let mut base = table.chains.values().filter_map(|&chain| {
                let chain = self.chain_of(listing, chain)?;
                chain.base.is_some().then_some(&*chain.name)
            });
            let built_in = named && base.all(|name| BUILT_IN.contains(&name));
            self.tables[number].of_iptables |= built_in;
        }
    }

    /// A chain itself.
    pub(super) fn chain_of<'l>(&self, listing: &'l Ruleset, chain: usize) -> Option<&'l Chain> {
        match listing.objects.get(self.chains.get(chain)?.object)? {
            Object::Chain(chain) => Some(chain),
            _ => None,
        }
    }

    /// A set itself.
    pub(super) fn set_of<'l>(&self, listing: &'l Ruleset, set: usize) -> Option<&'l Set> {
        match listing.objects.get(self.sets.get(set)?.object)? {
            Object::Set(set) => Some(set),
            _ => None,
        }
    }
}

/// The rule at a place of a listing.
pub(super) fn rule_at(listing: &Ruleset, place: usize) -> Option<&Rule> {
    match listing.objects.get(place)? {
        Object::Rule(rule) => Some(rule),
        _ => None,
    }
}

/// The set that a statement adds to or takes from.
fn changed_set(statement: &Statement) -> Option<&str> {
    let (Statement::Passing { name, body } | Statement::Opaque { name, body }) = statement else {
        return None;
    };
    match &**name {
        "set" => body.get("set")?.as_text()?.strip_prefix('@'),
        "map" => body.get("map")?.as_text()?.strip_prefix('@'),
        _ => None,
    }
}
