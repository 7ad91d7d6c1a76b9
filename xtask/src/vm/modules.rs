//! The kernel modules that the lab needs, with those that they need, in the order to load them.
//!
//! The packages have no `modules.dep` (installing writes it), but every module names what it
//! depends on. What a kernel has built in, or does not have, has no file and is left out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::decompress;
use super::kernel;

/// What the lab's devices and rules are made of.
const WANTED: &[&str] = &[
    // The network.
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    // Rules in nftables, and iptables' rules in them.
    "nf_tables",
    "nf_tables_set",
    "nft_chain_nat",
    "nft_compat",
    "nft_counter",
    "nft_ct",
    "nft_fib_inet",
    "nft_limit",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_redir",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    // iptables' matches and targets.
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_statistic",
    "xt_tcpudp",
    "ipt_REJECT",
    "ip6t_REJECT",
    // iptables-legacy's tables.
    "iptable_filter",
    "iptable_mangle",
    "iptable_nat",
    "ip6table_filter",
    "ip6table_mangle",
    "ip6table_nat",
    // IPVS.
    "ip_vs",
    "ip_vs_rr",
    // The sets that kube-proxy's rules ask in IPVS mode.
    "ip_set",
    "ip_set_bitmap_port",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "xt_set",
    // `conntrack`.
    "nf_conntrack_netlink",
];

/// A module, unpacked.
pub(crate) struct Module {
    /// Its name, as in `lsmod`.
    pub(crate) name: String,
    /// The ELF file.
    pub(crate) bytes: Vec<u8>,
}

/// The wanted modules under the directory and what they depend on, dependencies first.
///
/// # Errors
/// When a module cannot be read or unpacked.
pub(crate) fn read(directory: &Path) -> anyhow::Result<Vec<Module>> {
    let mut files = HashMap::new();
    for path in kernel::files(directory)? {
        if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    let mut reader = Reader {
        files,
        seen: HashSet::new(),
        modules: Vec::new(),
    };
    for name in WANTED {
        reader.read(name)?;
    }
    Ok(reader.modules)
}

struct Reader {
    files: HashMap<String, PathBuf>,
    seen: HashSet<String>,
    modules: Vec<Module>,
}

impl Reader {
    fn read(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(path) = self.files.get(name) else {
            return Ok(());
        };
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = decompress::decompress(&bytes).with_context(|| format!("the module {name}"))?;
        for dependency in dependencies(&bytes) {
            self.read(&dependency)?;
        }
        self.modules.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }
}

/// The name of the module in that file: `nf_nat` of `nf_nat.ko.xz`. File names may have dashes
/// where modules have underscores.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| name.replace('-', "_"))
}

/// What the module says in its `.modinfo`, a list of NUL-terminated strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let strings = module.split(|byte| *byte == 0);
    let list = strings.filter_map(|string| string.strip_prefix(KEY)).next();
    let list = String::from_utf8_lossy(list.unwrap_or_default());
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_modules() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("net/xt_nat.ko").as_deref(), Some("xt_nat"));
        assert_eq!(name("net/nf-nat.ko.xz").as_deref(), Some("nf_nat"));
        assert_eq!(name("net/notes.kontakt"), None);
        assert_eq!(name("modules.builtin"), None);
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let module = |name: &str, depends: &str| {
            let bytes = format!("\x7fELF\0license=GPL\0depends={depends}\0");
            fs::write(directory.path().join(name), bytes).unwrap();
        };
        module("veth.ko", "");
        module("bridge.ko", "stp,llc");
        module("br_netfilter.ko", "bridge");
        module("stp.ko", "llc");
        module("llc.ko", "");
        module("unwanted.ko", "");
        let modules = read(directory.path()).unwrap();
        let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["veth", "llc", "stp", "bridge", "br_netfilter"]);
    }
}
