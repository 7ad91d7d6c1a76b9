//! What nf_tables itself tells over nfnetlink: whether it is there, which tables there are, and
//! whether anything changed.
//!
//! Asked of the calling thread's namespace. A request to a part of netfilter that is absent would
//! make the kernel load its module, so [`present`] comes before any other question; nothing here
//! creates a table.

use std::{fs, io, path::Path, sync::OnceLock};

use super::netlink::{Message, Netlink, attributes, put_attribute};

/// `NFNL_SUBSYS_NFTABLES` and messages of `enum nf_tables_msg_types`.
const NFT_MSG_GETTABLE: u16 = 10 << 8 | 1;
const NFT_MSG_GETCHAIN: u16 = 10 << 8 | 4;
const NFT_MSG_GETSET: u16 = 10 << 8 | 10;
const NFT_MSG_GETGEN: u16 = 10 << 8 | 16;
/// Attributes of these.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_GEN_ID: u16 = 1;
/// `NFT_SET_ANONYMOUS`: a set of one rule.
const ANONYMOUS: u32 = 1;
/// `struct nfgenmsg`: all families, version 0.
const ALL_FAMILIES: [u8; 4] = [0; 4];

/// A number that changes with every change of a namespace's tables, chains, rules, sets and
/// elements, whoever made it, `nft` or iptables-nft (`nft_net->base_seq`). What packets themselves
/// do does not count: elements that they add, counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(u32);

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// `enum nfproto`: 1 inet, 2 ip, 10 ip6, ...
    pub family: u8,
    /// Its name.
    pub name: String,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseChain {
    /// The table that it is in.
    pub table: Table,
    /// Its name.
    pub name: String,
}

/// Whether nf_tables is in the kernel: loaded, built in, or in a kernel that cannot load modules
/// (where asking does no harm).
#[must_use]
pub fn present() -> bool {
    static BUILT_IN: OnceLock<bool> = OnceLock::new();
    Path::new("/sys/module/nf_tables").exists()
        || !Path::new("/proc/modules").exists()
        || *BUILT_IN.get_or_init(|| names_nf_tables("/sys/kernel/btf/vmlinux"))
}

/// Whether the kernel image's own BTF (modules have theirs apart) names a function of nf_tables.
/// A built-in part has no directory in `/sys/module` unless it has parameters.
fn names_nf_tables(vmlinux: &str) -> bool {
    let name = b"\0nf_tables_gettable\0";
    fs::read(vmlinux).is_ok_and(|btf| btf.windows(name.len()).any(|window| window == name))
}

/// The generation of the calling thread's namespace. Ask [`present`] first.
///
/// # Errors
/// When the kernel has no nf_tables, or this process no `CAP_NET_ADMIN`.
pub fn generation() -> io::Result<Generation> {
    let answer = open()?.ask(NFT_MSG_GETGEN, &ALL_FAMILIES)?;
    let number = attribute(&answer.body, NFTA_GEN_ID);
    let number = number.and_then(|number| number.try_into().ok());
    let number = number.ok_or_else(|| io::Error::other("nf_tables gives no generation"))?;
    Ok(Generation(u32::from_be_bytes(number)))
}

/// The tables of the calling thread's namespace, of all families. Ask [`present`] first.
///
/// # Errors
/// As [`generation`].
pub fn tables() -> io::Result<Vec<Table>> {
    let tables = open()?.dump(NFT_MSG_GETTABLE, &ALL_FAMILIES)?;
    let named = tables
        .iter()
        .map(|table| named(&table.body, NFTA_TABLE_NAME));
    Ok(named.collect())
}

/// The base chains of the calling thread's namespace, of all families. Ask [`present`] first.
///
/// # Errors
/// As [`generation`].
pub fn base_chains() -> io::Result<Vec<BaseChain>> {
    let chains = open()?.dump(NFT_MSG_GETCHAIN, &ALL_FAMILIES)?;
    let base = chains
        .iter()
        .filter(|chain| attribute(&chain.body, NFTA_CHAIN_HOOK).is_some());
    let named = base.map(|chain| BaseChain {
        table: named(&chain.body, NFTA_CHAIN_TABLE),
        name: named(&chain.body, NFTA_CHAIN_NAME).name,
    });
    Ok(named.collect())
}

/// Whether a table of the calling thread's namespace has sets or maps of its own. Ask [`present`]
/// first.
///
/// # Errors
/// As [`generation`].
pub fn has_named_sets(table: &Table) -> io::Result<bool> {
    let mut question = vec![table.family, 0, 0, 0];
    let mut name = table.name.clone().into_bytes();
    name.push(0);
    put_attribute(&mut question, NFTA_SET_TABLE, &name);
    let sets = open()?.dump(NFT_MSG_GETSET, &question)?;
    let named = |set: &Message| {
        let flags = attribute(&set.body, NFTA_SET_FLAGS);
        let flags = flags.and_then(|flags| flags.try_into().ok());
        flags.map_or(0, u32::from_be_bytes) & ANONYMOUS == 0
    };
    Ok(sets.iter().any(named))
}

fn open() -> io::Result<Netlink> {
    Netlink::open(libc::NETLINK_NETFILTER as isize)
}

/// Every answer begins with its own `struct nfgenmsg`.
fn attribute(body: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut attributes = attributes(body.get(ALL_FAMILIES.len()..)?);
    let found = attributes.find(|attribute| attribute.kind() == kind);
    found.map(|attribute| attribute.value().to_vec())
}

fn named(body: &[u8], kind: u16) -> Table {
    let name = attribute(body, kind).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Table {
        family: body.first().copied().unwrap_or_default(),
        name: String::from_utf8_lossy(name).into_owned(),
    }
}
