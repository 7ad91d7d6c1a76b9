//! Rule dumps as values, for comparing what is meant with what is there.
//!
//! Only layout is normalised: counters, comments, the order of chains, sets and set elements. The
//! order of the rules in a chain is kept.

use std::collections::{BTreeMap, BTreeSet};

/// One iptables table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The chains that are not built in.
    pub chains: BTreeSet<String>,
    /// The rules of each chain, without `-A CHAIN`.
    pub rules: BTreeMap<String, Vec<String>>,
}

/// The tables in the output of `iptables-save` or the input of `iptables-restore`. A table may
/// come in several parts, as `iptables-restore --noflush` takes it.
#[must_use]
pub fn iptables(text: &str) -> BTreeMap<String, Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let entry = tables.entry(table.clone()).or_default();
            // `:KUBE-SERVICES - [0:0]`, `:FORWARD ACCEPT [41:2430]`
            if let Some((name, "-")) = chain.split_once(" [").and_then(|(c, _)| c.split_once(' ')) {
                entry.chains.insert(name.to_owned());
            }
        } else if let Some((chain, rule)) = line
            .strip_prefix("-A ")
            .and_then(|rule| rule.split_once(' '))
        {
            let entry = tables.entry(table.clone()).or_default();
            entry
                .rules
                .entry(chain.to_owned())
                .or_default()
                .push(rule.to_owned());
        }
    }
    tables
}

/// What is in an nftables table: the lines of each set, map and chain, by its head
/// (`chain services`, `map service-ips`), and the table's own lines under the empty head.
pub type Objects = BTreeMap<String, Vec<String>>;

/// The tables in the output of `nft list ruleset`, by `ip kube-proxy` and the like.
///
/// The elements of a set are one line, sorted; those of a dynamic set, which packets add, are left
/// out.
#[must_use]
pub fn nftables(text: &str) -> BTreeMap<String, Objects> {
    let mut tables: BTreeMap<String, Objects> = BTreeMap::new();
    let (mut table, mut object) = (String::new(), String::new());
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if let Some(name) = line
            .strip_prefix("table ")
            .and_then(|l| l.strip_suffix(" {"))
        {
            name.clone_into(&mut table);
            object.clear();
            tables.entry(table.clone()).or_default();
        } else if line == "}" {
            object.clear();
        } else if let Some(head) = line.strip_suffix(" {") {
            head.clone_into(&mut object);
            entry(&mut tables, &table, &object);
        } else {
            let mut line = line.to_owned();
            if line.starts_with("elements = {") {
                while !line.ends_with('}') {
                    let Some(next) = lines.next() else { break };
                    line = format!("{line} {next}");
                }
                line = sorted_elements(&line);
            }
            entry(&mut tables, &table, &object).push(line);
        }
    }
    for object in tables.values_mut().flat_map(BTreeMap::values_mut) {
        if object.iter().any(|line| line.starts_with("flags dynamic")) {
            object.retain(|line| !line.starts_with("elements = "));
        }
    }
    tables
}

fn entry<'a>(
    tables: &'a mut BTreeMap<String, Objects>,
    table: &str,
    object: &str,
) -> &'a mut Vec<String> {
    let objects = tables.entry(table.to_owned()).or_default();
    objects.entry(object.to_owned()).or_default()
}

fn sorted_elements(line: &str) -> String {
    let elements = line
        .trim_start_matches("elements = {")
        .trim_end_matches('}');
    let mut elements: Vec<&str> = elements.split(',').map(str::trim).collect();
    elements.sort_unstable();
    format!("elements = {{ {} }}", elements.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_built_in_chains_do_not_count() {
        let saved =
            "# Generated\n*nat\n:OUTPUT ACCEPT [4:240]\n:X - [0:0]\n-A OUTPUT -j X\nCOMMIT\n";
        let written = "*nat\n:X - [0:0]\nCOMMIT\n*nat\n-A OUTPUT -j X\nCOMMIT\n";
        assert_eq!(iptables(saved), iptables(written));
    }

    #[test]
    fn the_order_of_rules_counts() {
        let text =
            |a: &str, b: &str| iptables(&format!("*nat\n-A OUTPUT -j {a}\n-A OUTPUT -j {b}\n"));
        assert_ne!(text("X", "Y"), text("Y", "X"));
    }

    #[test]
    fn elements_may_wrap_and_change_their_order() {
        let wrapped = "table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.2,\n\t\t\t 10.0.0.1 }\n\t}\n}\n";
        let flat = "table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1, 10.0.0.2 }\n\t}\n}\n";
        assert_eq!(nftables(wrapped), nftables(flat));
        assert_eq!(
            nftables(flat)["ip t"]["set s"][1],
            "elements = { 10.0.0.1, 10.0.0.2 }"
        );
    }

    #[test]
    fn elements_that_packets_add_do_not_count() {
        let text = "table ip t {\n\tset s {\n\t\tflags dynamic,timeout\n\t\telements = { 10.0.0.1 expires 1s }\n\t}\n}\n";
        assert_eq!(nftables(text)["ip t"]["set s"], ["flags dynamic,timeout"]);
    }
}
