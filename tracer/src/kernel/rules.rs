//! Whether a network namespace has netfilter rules, so that netfilter hooks are worth attaching.
//!
//! Asked of the calling thread's namespace (run it through [`crate::node::netns::in_netns`]).
//! An observer must not change what it looks at, so nothing here makes the kernel load a module or
//! create a table:
//! - nftables (and iptables-nft) tables are listed over nfnetlink, but only when nf_tables is in
//!   the kernel already ([`nf_tables`]);
//! - legacy tables are read from `ip_tables_names`, which lists those that exist; the socket
//!   options that `iptables -L` uses would create them;
//! - IPVS services are read from `/proc`.
//!
//! Limit: a chain's content is not looked at. An empty table counts: its hooks run.

use std::{fs, io};

use crate::node::nf_tables;

/// What a network namespace has of netfilter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// An nftables table of family ip, ip6 or inet; iptables-nft rules are such tables.
    pub nftables: bool,
    /// A legacy iptables table.
    pub legacy_ip: bool,
    /// A legacy ip6tables table.
    pub legacy_ip6: bool,
    /// An IPVS virtual server.
    pub ipvs: bool,
}

impl Rules {
    /// Whether there is anything that can translate or drop a packet.
    #[must_use]
    pub fn any(self) -> bool {
        self.nftables || self.legacy_ip || self.legacy_ip6 || self.ipvs
    }
}

/// Why it is not known whether there are rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// `/proc` said no.
    #[error(
        "cannot read {path}: {source}; /proc must be mounted and this needs root or CAP_DAC_READ_SEARCH"
    )]
    Read {
        /// The file.
        path: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel did not list the nftables tables.
    #[error("cannot list nftables tables: {0}; this needs CAP_NET_ADMIN")]
    List(io::Error),
}

/// `enum nfproto`: inet, ipv4, ipv6.
const FAMILIES: [u8; 3] = [1, 2, 10];

impl RulesError {
    /// What the system said.
    pub(super) fn cause(&self) -> &io::Error {
        match self {
            Self::Read { source, .. } | Self::List(source) => source,
        }
    }
}

/// Lines above the first virtual server in `ip_vs`.
const IPVS_HEADING: usize = 3;

/// What the calling thread's network namespace has.
///
/// # Errors
/// When one of the sources cannot be asked: then nothing is known, rather than "no rules".
pub fn of_this_netns() -> Result<Rules, RulesError> {
    Ok(Rules {
        nftables: nf_tables::present() && nftables_tables().map_err(RulesError::List)?,
        legacy_ip: !lines("/proc/thread-self/net/ip_tables_names")?.is_empty(),
        legacy_ip6: !lines("/proc/thread-self/net/ip6_tables_names")?.is_empty(),
        ipvs: lines("/proc/thread-self/net/ip_vs")?.lines().count() > IPVS_HEADING,
    })
}

fn nftables_tables() -> io::Result<bool> {
    let tables = nf_tables::tables()?;
    Ok(tables.iter().any(|table| FAMILIES.contains(&table.family)))
}

/// The content of a file of `/proc`; empty when it does not exist (the module is not loaded).
fn lines(path: &'static str) -> Result<String, RulesError> {
    match fs::read_to_string(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(RulesError::Read { path, source }),
        Ok(content) => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{in_new_netns, root, run};

    /// The rules of a new namespace in which `line` was run; `None` when it could not be.
    fn after(line: &str) -> Option<Rules> {
        in_new_netns(|| run(line).then(|| of_this_netns().unwrap()))
    }

    #[test]
    fn a_new_namespace_has_none_and_asking_creates_none() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            assert!(!of_this_netns().unwrap().any());
            assert!(!of_this_netns().unwrap().any(), "asking created something");
        });
    }

    #[test]
    fn nftables_tables_count_by_family() {
        if !root() {
            return;
        }
        let only_nftables = Rules {
            nftables: true,
            ..Rules::default()
        };
        for (family, expected) in [
            ("ip", only_nftables),
            ("ip6", only_nftables),
            ("inet", only_nftables),
            ("bridge", Rules::default()),
            ("netdev", Rules::default()),
        ] {
            match after(&format!("nft add table {family} test")) {
                Some(rules) => assert_eq!(rules, expected, "{family}"),
                None => println!("skipped: nft cannot make a table of family {family}"),
            }
        }
    }

    #[test]
    fn many_tables_are_one_answer() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            for table in 0..300 {
                if !run(&format!("nft add table bridge test{table}")) {
                    return println!("skipped: nft cannot make bridge tables");
                }
            }
            assert!(!of_this_netns().unwrap().any());
            assert!(run("nft add table inet test"));
            assert!(of_this_netns().unwrap().nftables);
        });
    }

    #[test]
    fn both_kinds_of_iptables_count() {
        if !root() {
            return;
        }
        let rule = "-t nat -A OUTPUT -j ACCEPT";
        for (tool, expected) in [
            ("iptables-nft", [true, false, false]),
            ("ip6tables-nft", [true, false, false]),
            ("iptables-legacy", [false, true, false]),
            ("ip6tables-legacy", [false, false, true]),
        ] {
            match after(&format!("{tool} {rule}")) {
                Some(found) => {
                    assert_eq!(
                        [found.nftables, found.legacy_ip, found.legacy_ip6],
                        expected,
                        "{tool}"
                    );
                }
                None => println!("skipped: {tool} does not work here"),
            }
        }
    }

    #[test]
    fn a_virtual_server_counts() {
        if !root() {
            return;
        }
        match after("ipvsadm -A -t 10.96.0.1:80 -s rr") {
            Some(rules) => assert!(rules.ipvs),
            None => println!("skipped: ipvsadm does not work here"),
        }
    }
}
