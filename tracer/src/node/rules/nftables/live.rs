//! Reading the rules of the calling thread's namespace, by way of the program `nft`.
//!
//! The program is the one part of nftables that decodes all expressions of its kernel; it is asked
//! to list and nothing else. It is not run where there is nothing for it to say: no nf_tables in the
//! kernel, no table, or only tables of iptables-nft, which `iptables-nft-save` tells better. Whether
//! anything changed since is one small question to the kernel
//! ([`generation`](crate::node::nf_tables::generation)), so nothing is read twice.
//!
//! iptables-nft's tables beside others are left out of the question.
//!
//! Limits: what packets add to sets is as old as the last reading. A table that is called and built
//! like one of iptables-nft's is taken for it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    RuleSet,
    index::{BUILT_IN, IPTABLES},
    model::{Family, Ruleset},
    read::{self, MAX_BYTES, ReadError},
};
use crate::node::{
    nf_tables,
    program::{self, ProgramError},
};

/// Why nftables' rules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The kernel did not answer.
    #[error("cannot ask nf_tables: {0}; this needs CAP_NET_ADMIN")]
    Ask(io::Error),
    /// There are rules and no program to read them with.
    #[error("there are nftables rules, but no program nft to read them with: install nftables")]
    Missing,
    /// The program did not say them.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It said something else than a listing.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The nftables rules of the calling thread's namespace; an empty set where there are none.
///
/// # Errors
/// When the kernel or the program does not answer, or not as expected.
pub fn read() -> Result<RuleSet, LiveError> {
    if !nf_tables::present() {
        return Ok(RuleSet::default());
    }
    let own = Own::find().map_err(LiveError::Ask)?;
    if own == Own::Some(Vec::new()) {
        return Ok(RuleSet::default());
    }
    let program = program().ok_or(LiveError::Missing)?;
    let Own::Some(tables) = own else {
        return Ok(list(&program, &["ruleset"])?.into());
    };
    let mut listing = Ruleset::default();
    for (family, name) in &tables {
        let table = list(&program, &["table", family.as_str(), name])?;
        listing.append(table);
    }
    Ok(listing.into())
}

fn list(program: &Path, what: &[&str]) -> Result<Ruleset, LiveError> {
    // Stateless: what counts differs from look to look without a rule being another one.
    let arguments: Vec<&str> = ["-s", "-j", "list"].iter().chain(what).copied().collect();
    let listing = program::long_output(program, &arguments, MAX_BYTES)?;
    Ok(read::read(&listing)?)
}

/// The program `nft`, where there is one.
#[must_use]
pub fn program() -> Option<PathBuf> {
    program::find("nft")
}

/// The tables that are not iptables-nft's.
#[derive(Debug, PartialEq, Eq)]
enum Own {
    /// All that there are, or it is not known which.
    All,
    /// These. iptables-nft's rules may be many, and each would be listed as opaque JSON.
    Some(Vec<(Family, String)>),
}

impl Own {
    fn find() -> io::Result<Self> {
        let tables = nf_tables::tables()?;
        let by_name = |table: &&nf_tables::Table| {
            let family = family(table.family);
            matches!(family, Some(Family::Ip | Family::Ip6))
                && IPTABLES.contains(&table.name.as_str())
        };
        let mut theirs: Vec<_> = tables.iter().filter(by_name).collect();
        if !theirs.is_empty() {
            let chains = nf_tables::base_chains()?;
            let own = chains
                .iter()
                .filter(|chain| !BUILT_IN.contains(&chain.name.as_str()));
            let own: Vec<_> = own.map(|chain| &chain.table).collect();
            theirs.retain(|table| !own.contains(table));
        }
        let mut all_own = true;
        let mut own = Vec::new();
        for table in &tables {
            if theirs.contains(&table) && !nf_tables::has_named_sets(table)? {
                all_own = false;
            } else {
                own.push((family(table.family), table.name.clone()));
            }
        }
        let plain = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let known = own
            .into_iter()
            .map(|(family, name)| plain(&name).then_some((family?, name)));
        Ok(match known.collect::<Option<Vec<_>>>() {
            Some(own) if !all_own || own.is_empty() => Self::Some(own),
            _ => Self::All,
        })
    }
}

/// A family by its number (`enum nfproto`).
fn family(number: u8) -> Option<Family> {
    Some(match number {
        1 => Family::Inet,
        2 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        10 => Family::Ip6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{
        nf_tables::generation,
        testing::{in_new_netns, root, run},
    };

    /// Whether nft works here; says so when it does not.
    fn nft() -> bool {
        root() && in_new_netns(|| run("nft add table inet test"))
    }

    #[test]
    fn an_empty_namespace_has_no_rules_and_reading_makes_none() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            assert!(read().unwrap() == RuleSet::default());
            assert!(!nf_tables::present() || nf_tables::tables().unwrap().is_empty());
        });
    }

    #[test]
    fn rules_are_read_and_changes_are_noticed_without_reading() {
        if !nft() {
            return;
        }
        in_new_netns(|| {
            assert!(run("nft add table inet test"));
            let before = generation().unwrap();
            let empty = read().unwrap();
            assert_eq!(empty.listing().objects.len(), 2);
            assert_eq!(generation().unwrap(), before, "reading changed something");
            for line in [
                "nft add chain inet test in { type filter hook input priority 0; }",
                "nft add set inet test s { type ipv4_addr; }",
                "nft add rule inet test in ip saddr @s drop",
                "nft add element inet test s { 10.0.0.1 }",
            ] {
                let before = generation().unwrap();
                assert!(run(line), "{line}");
                assert_ne!(generation().unwrap(), before, "{line}");
            }
            let rules = read().unwrap();
            let rule = rules.listing().objects.last().unwrap();
            let super::super::model::Object::Rule(rule) = rule else {
                panic!("{rule:?}");
            };
            assert_eq!(rule.to_string(), "ip saddr @s drop");
        });
    }

    #[test]
    fn tables_of_iptables_alone_are_not_listed() {
        if !nft() {
            return;
        }
        in_new_netns(|| {
            if !run("iptables-nft -t nat -A OUTPUT -j ACCEPT") {
                return println!("skipped: iptables-nft does not work here");
            }
            let before = generation().unwrap();
            assert!(read().unwrap() == RuleSet::default());
            assert!(run("iptables-nft -A FORWARD -j DROP"));
            assert_ne!(generation().unwrap(), before);
            // Of others beside them, those alone are.
            for table in ["ip kube-proxy", "inet other", "bridge filter"] {
                assert!(run(&format!("nft add table {table}")));
            }
            let rules = read().unwrap();
            assert_eq!(rules.listing().objects.len(), 4, "{:?}", rules.listing());
            assert_eq!(rules.tables_of_iptables().count(), 0);
            // Where everything is listed, theirs are known again.
            let all = RuleSet::from(list(&program().unwrap(), &["ruleset"]).unwrap());
            let theirs: Vec<_> = all.tables_of_iptables().collect();
            assert_eq!(theirs, ["ip nat", "ip filter"]);
        });
        in_new_netns(|| {
            // One of the same name that iptables-nft did not make.
            assert!(run("nft add table ip nat"));
            assert!(run(
                "nft add chain ip nat prerouting { type nat hook prerouting priority -100; }"
            ));
            let rules = read().unwrap();
            assert_eq!(rules.tables_of_iptables().count(), 0);
            assert_eq!(rules.listing().objects.len(), 3);
            assert!(run("nft delete table ip nat"));
            // One that is built as theirs, but has a set.
            assert!(run("nft add table ip filter"));
            assert!(run("nft add set ip filter s { type ipv4_addr; }"));
            assert_eq!(read().unwrap().listing().objects.len(), 3);
            assert_eq!(Own::find().unwrap(), Own::All);
        });
    }
}
