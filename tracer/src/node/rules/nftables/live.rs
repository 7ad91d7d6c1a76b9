//! Reading the rules of the calling thread's namespace, by way of the program `nft`.
//!
//! The program is the one part of nftables that decodes all expressions of its kernel; it is asked
//! to list and nothing else. It is not run where there is nothing for it to say: no nf_tables in the
//! kernel, no table, or only tables of iptables-nft, which `iptables-nft-save` tells better. Whether
//! anything changed since is one small question to the kernel
//! ([`generation`](crate::node::nf_tables::generation)), so nothing is read twice.
//!
//! Limits: what packets add to sets is as old as the last reading. A table that is called and built
//! like one of iptables-nft's is taken for it.

use std::{io, path::PathBuf};

use super::{
    RuleSet,
    index::{BUILT_IN, IPTABLES},
    read::{MAX_BYTES, ReadError},
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
    if !nf_tables::present() || !own_tables().map_err(LiveError::Ask)? {
        return Ok(RuleSet::default());
    }
    let program = program().ok_or(LiveError::Missing)?;
    let listing = program::output(&program, &["-j", "list", "ruleset"], MAX_BYTES)?;
    Ok(RuleSet::parse(&listing)?)
}

/// The program `nft`, where there is one.
#[must_use]
pub fn program() -> Option<PathBuf> {
    program::find("nft")
}

/// Whether there is a table that is not one of iptables-nft's.
fn own_tables() -> io::Result<bool> {
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    const IP: [u8; 2] = [2, 10];
    let tables = nf_tables::tables()?;
    let by_name = |table: &nf_tables::Table| {
        IP.contains(&table.family) && IPTABLES.contains(&table.name.as_str())
    };
    if !tables.iter().all(by_name) {
        return Ok(true);
    }
    // Asked only now, for there may be many chains.
    let mut chains = if tables.is_empty() {
        Vec::new()
    } else {
        nf_tables::base_chains()?
    };
    chains.retain(|chain| !BUILT_IN.contains(&chain.name.as_str()));
    Ok(!chains.is_empty())
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
            // One of another name beside them: all are listed, and theirs known again.
            assert!(run("nft add table ip kube-proxy"));
            let rules = read().unwrap();
            let theirs: Vec<_> = rules.tables_of_iptables().collect();
            assert!(theirs.contains(&"ip nat".to_owned()), "{theirs:?}");
            assert!(!theirs.contains(&"ip kube-proxy".to_owned()), "{theirs:?}");
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
        });
    }
}
