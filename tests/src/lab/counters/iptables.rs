//! Counters of iptables, from `iptables -L -v -x -n --line-numbers`.

use anyhow::Context as _;

use super::{Counted, Counts, Place};
use crate::lab::proxy::Family;

/// Reads the listing of one table.
pub(super) fn counts(family: Family, table: &str, listed: &str) -> anyhow::Result<Counts> {
    let tool = match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let mut counts = Counts::new();
    let mut chain = "";
    for line in listed.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (place, end, packets) = match words[..] {
            [] | ["num", ..] => continue,
            // Chain FORWARD (policy DROP 3 packets, 180 bytes)
            ["Chain", name, "(policy", policy, packets, ..] => {
                chain = name;
                (Place::Policy, policy, packets)
            }
            ["Chain", name, ..] => {
                chain = name;
                continue;
            }
            // Without a target, the options come right behind the protocol.
            [number, packets, _, _, "--", ..] => (Place::Number(number.parse()?), "", packets),
            [number, packets, _, target, ..] => (Place::Number(number.parse()?), target, packets),
            _ => anyhow::bail!("not understood: {line}"),
        };
        let counted = Counted {
            tool,
            table: table.to_owned(),
            chain: chain.to_owned(),
            place,
            end: end.to_owned(),
        };
        let packets = packets.parse().with_context(|| line.to_owned())?;
        counts.insert(counted, packets);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_policies_are_read() {
        let listed = "\
Chain FORWARD (policy DROP 3 packets, 180 bytes)
num      pkts      bytes target     prot opt in     out     source               destination
1           7      420            1    --  *      *       0.0.0.0/0            0.0.0.0/0            /* x -- y */
2           0        0 KUBE-SERVICES  0    --  *      *       0.0.0.0/0            0.0.0.0/0

Chain KUBE-SERVICES (2 references)
num      pkts      bytes target     prot opt in     out     source               destination
1           1       60 REJECT     6    --  *      *       0.0.0.0/0            10.96.0.85           /* default/ghost:http has no endpoints */ tcp dpt:80 reject-with icmp-port-unreachable
";
        let counts = counts(Family::Ipv4, "filter", listed).unwrap();
        let read: Vec<_> = counts
            .iter()
            .map(|(counted, packets)| {
                let Counted {
                    chain, place, end, ..
                } = counted;
                (chain.as_str(), place.clone(), end.as_str(), *packets)
            })
            .collect();
        assert_eq!(
            read,
            [
                ("FORWARD", Place::Number(1), "", 7),
                ("FORWARD", Place::Number(2), "KUBE-SERVICES", 0),
                ("FORWARD", Place::Policy, "DROP", 3),
                ("KUBE-SERVICES", Place::Number(1), "REJECT", 1),
            ]
        );
    }
}
