//! What a packet is translated to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{
    super::{
        decision::{Decision, Undecided},
        outcome::{NatRange, Outcome},
        subject::{Family as Version, Subject},
        walk::Walk,
    },
    RuleSet,
    kind::Kind,
    model::{Expression, Nat, NatKind},
};
use super::{Spot, chain::UnderWay};

impl RuleSet {
    /// Whether a translation is for packets of this family.
    pub(super) fn translates(&self, nat: &Nat, subject: &Subject) -> bool {
        match nat.family.as_deref() {
            Some("ip") => subject.family() == Version::V4,
            Some("ip6") => subject.family() == Version::V6,
            _ => true,
        }
    }

    /// Ends the walk with a translation; whether it is certain to take place once the rule comes to
    /// it.
    pub(super) fn translate(
        &self,
        walk: &mut Walk<'_, Spot>,
        rule: &UnderWay<'_>,
        nat: &Nat,
    ) -> bool {
        let version = rule.subject().family();
        let ports = nat.port.as_ref().and_then(ports);
        let Some(Expression::Map(map)) = &nat.address else {
            let (range, why) = range(nat.address.as_ref(), ports, version);
            let why = rule.cause.why.clone().or(why);
            walk.end(
                rule.cause.spot,
                why,
                outcome(nat.kind, range),
                rule.subject(),
            );
            return true;
        };
        let (key, data) = &**map;
        let values = rule.packet(walk.around).key(key);
        let Some(looked) = self.look_up(rule.cause.table, key, data, &values) else {
            let why = Undecided::because("the map is not known");
            let end = outcome(nat.kind, NatRange::default());
            walk.end(rule.cause.spot, Some(why), end, rule.subject());
            return false;
        };
        let Spot::Rule(chain, place) = rule.cause.spot else {
            return false;
        };
        for (number, decision) in &looked.found.elements {
            let element = looked.elements.get(*number as usize);
            let (range, why) = range(element.and_then(|e| e.data.as_ref()), ports, version);
            let why = match decision {
                Decision::Unknown(why) => Some(why.clone()),
                Decision::Yes | Decision::No => why,
            };
            let spot = Spot::Element(chain, place, looked.set, *number);
            let end = outcome(nat.kind, range);
            walk.inside::<()>(rule.cause.spot, rule.cause.why.clone(), |walk| {
                walk.end(spot, why, end, rule.subject());
                None
            });
        }
        looked.found.complete
    }
}

fn outcome(kind: NatKind, range: NatRange) -> Outcome {
    match kind {
        NatKind::Dnat => Outcome::Dnat(range),
        NatKind::Snat => Outcome::Snat(range),
        NatKind::Masquerade => Outcome::Masquerade(range),
        NatKind::Redirect => Outcome::Redirect(range),
    }
}

/// The addresses and ports that an expression gives; and why not, where it is not understood.
pub(in super::super) fn range(
    to: Option<&Expression>,
    ports: Option<(u16, u16)>,
    version: Version,
) -> (NatRange, Option<Undecided>) {
    let (address, ports) = match to {
        None => {
            let addresses = None;
            return (NatRange { addresses, ports }, None);
        }
        Some(Expression::Concat(parts)) => match parts.as_slice() {
            [address, port] => (Some(address), self::ports(port)),
            _ => (None, ports),
        },
        Some(address) => (Some(address), ports),
    };
    let addresses = address.and_then(|address| addresses(address, version));
    let why = addresses
        .is_none()
        .then(|| Undecided::because("the new address is not understood"));
    (NatRange { addresses, ports }, why)
}

fn addresses(address: &Expression, version: Version) -> Option<(IpAddr, IpAddr)> {
    let kind = match version {
        Version::V4 => Kind::Ipv4,
        Version::V6 => Kind::Ipv6,
    };
    let (first, last) = kind.interval(address)?;
    let ip = |number: u128| -> Option<IpAddr> {
        Some(match version {
            Version::V4 => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
            Version::V6 => Ipv6Addr::from(number).into(),
        })
    };
    Some((ip(first)?, ip(last)?))
}

pub(in super::super) fn ports(port: &Expression) -> Option<(u16, u16)> {
    let (first, last) = Kind::Port.interval(port)?;
    Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?))
}
