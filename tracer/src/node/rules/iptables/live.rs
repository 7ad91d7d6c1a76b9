//! Reading iptables' rules of the calling thread's namespace, by `iptables-save` and its like.
//!
//! They are run only where there is something for them to say, so that looking makes nothing: the nft
//! back end's where nf_tables has tables of its names, the legacy one's where `ip_tables_names` lists
//! tables. No module is loaded: none but those that the rules use already is named, and modprobe is
//! replaced by a program that does nothing.
//!
//! Packets and bytes are left out, and the heading with its date: what is equal here are equal rules.

use std::{io, path::PathBuf, sync::OnceLock};

use super::{Family, ParseError, RuleSet, Tables, legacy, parse::LONGEST};
use crate::node::{
    nf_tables,
    program::{self, ProgramError},
    rules::path::Source,
};

/// The tables that iptables-nft makes.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Why iptables' rules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The kernel did not say which tables there are.
    #[error("cannot ask which iptables tables there are: {0}; this needs CAP_NET_ADMIN")]
    Ask(#[from] io::Error),
    /// There are rules and no program to read them with.
    #[error(
        "there are {back_end} rules, but no program {program} to read them with: install iptables"
    )]
    Missing {
        /// The back end.
        back_end: &'static str,
        /// The program.
        program: &'static str,
    },
    /// The program did not say them.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It said something that is not understood.
    #[error("{program}: {error}")]
    Parse {
        /// The program.
        program: &'static str,
        /// What is not understood.
        error: ParseError,
    },
}

/// The rules of a family and back end in the calling thread's namespace; `None` where there are no
/// tables.
///
/// # Errors
/// [`LiveError`].
pub fn read(family: Family, source: Source) -> Result<Option<RuleSet>, LiveError> {
    let exist = match source {
        Source::IptablesNft => has_nft_tables(family)?,
        _ => !legacy::tables(family)?.is_empty(),
    };
    if !exist {
        return Ok(None);
    }
    let program = program_for(family, source);
    let missing = LiveError::Missing {
        back_end: source.as_str(),
        program: program.name,
    };
    let path = program.path().ok_or(missing)?;
    let text = program::output(path, &["-M", "/bin/true"], LONGEST)?;
    let mut tables = Tables::parse(&text).map_err(|error| LiveError::Parse {
        program: program.name,
        error,
    })?;
    tables.forget_what_changes();
    Ok(Some(RuleSet::new(family, source, tables)))
}

fn has_nft_tables(family: Family) -> io::Result<bool> {
    let number = match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    if !nf_tables::present() {
        return Ok(false);
    }
    let tables = nf_tables::tables()?;
    Ok(tables
        .iter()
        .any(|table| table.family == number && TABLES.contains(&table.name.as_str())))
}

/// A program under the name that is only its own, and under that which it shares with the other back
/// end's.
struct Program {
    name: &'static str,
    shared: &'static str,
    nft: bool,
    found: OnceLock<Option<PathBuf>>,
}

impl Program {
    const fn new(name: &'static str, shared: &'static str, nft: bool) -> Self {
        Self {
            name,
            shared,
            nft,
            found: OnceLock::new(),
        }
    }

    fn path(&self) -> Option<&PathBuf> {
        let found = self.found.get_or_init(|| {
            program::find(self.name).or_else(|| {
                let shared = program::find(self.shared)?;
                let version = program::output(&shared, &["--version"], 4096).ok()?;
                // `iptables-save v1.8.9 (nf_tables)`; older ones are legacy and do not say so.
                (version.contains("(nf_tables)") == self.nft).then_some(shared)
            })
        });
        found.as_ref()
    }
}

fn program_for(family: Family, source: Source) -> &'static Program {
    static PROGRAMS: [Program; 4] = [
        Program::new("iptables-nft-save", "iptables-save", true),
        Program::new("ip6tables-nft-save", "ip6tables-save", true),
        Program::new("iptables-legacy-save", "iptables-save", false),
        Program::new("ip6tables-legacy-save", "ip6tables-save", false),
    ];
    let [nft, nft6, legacy, legacy6] = &PROGRAMS;
    match (source, family) {
        (Source::IptablesNft, Family::V4) => nft,
        (Source::IptablesNft, Family::V6) => nft6,
        (_, Family::V4) => legacy,
        (_, Family::V6) => legacy6,
    }
}

impl Tables {
    /// Takes away what changes without a rule being another one.
    fn forget_what_changes(&mut self) {
        self.ending.clear();
        for table in &mut self.tables {
            table.heading.clear();
            for chain in &mut table.chains {
                chain.counters = None;
                for rule in &mut chain.rules {
                    rule.counters = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{in_new_netns, root, run};

    const BOTH: [Source; 2] = [Source::IptablesNft, Source::IptablesLegacy];

    #[test]
    fn where_there_is_nothing_reading_makes_nothing() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            for _ in 0..2 {
                for source in BOTH {
                    for family in [Family::V4, Family::V6] {
                        assert!(read(family, source).unwrap().is_none());
                    }
                }
            }
        });
    }

    #[test]
    fn rules_are_read_from_the_back_end_that_has_them() {
        if !root() {
            return;
        }
        for (tool, source, family) in [
            ("iptables-nft", Source::IptablesNft, Family::V4),
            ("ip6tables-nft", Source::IptablesNft, Family::V6),
            ("iptables-legacy", Source::IptablesLegacy, Family::V4),
            ("ip6tables-legacy", Source::IptablesLegacy, Family::V6),
        ] {
            in_new_netns(|| {
                let line = format!("{tool} -t nat -A OUTPUT -p tcp --dport 80 -j RETURN");
                if !run(&line) {
                    return println!("skipped: {tool} does not work here");
                }
                for other in BOTH {
                    for any in [Family::V4, Family::V6] {
                        let found = read(any, other).unwrap();
                        assert_eq!(found.is_some(), (any, other) == (family, source));
                    }
                }
                let rules = read(family, source).unwrap().unwrap();
                assert_eq!(rules.tables().rules(), 1);
                let text = rules.tables().to_string();
                let rule = "-A OUTPUT -p tcp -m tcp --dport 80 -j RETURN\n";
                assert!(text.contains(rule) && !text.contains(['#', '[']), "{text}");
                assert_eq!(read(family, source).unwrap().as_ref(), Some(&rules));
            });
        }
    }
}
