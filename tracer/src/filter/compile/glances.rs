//! What no packet can do without that a program matches: see [`tracer_common::glance`].
//!
//! Every way through the program that accepts is one alternative: all that holds on it. What does not
//! hold on it, and what a glance does not look at (ranges of ports, devices' names), is left out, which makes the alternative
//! wider and never wrong.

use tracer_common::{
    address::from_ipv4,
    filter::{self as terms, ACCEPT, Program, REJECT, Term},
    glance::{DESTINATION, DESTINATION_PORT, Glance, MAX_GLANCES, PROTOCOL, SOURCE, SOURCE_PORT},
};

/// How many terms are walked, over all ways, before the program is taken as it is.
const STEPS: usize = 4096;
/// The ports, of the second word.
const PORTS: u64 = 0xffff_ffff;

/// Adds the program's glances, where it has few enough and they say something.
pub(super) fn add(program: &mut Program) {
    // What does not match tells something of its flow there: each such packet is looked at closely.
    if program.negative != 0 {
        return;
    }
    let mut ways = Ways {
        program,
        found: Vec::new(),
        steps: 0,
    };
    if ways.walk(0, Glance::default()).is_none() {
        return;
    }
    let mut glances = distinct(ways.found);
    if glances.len() > MAX_GLANCES {
        for glance in &mut glances {
            glance.mask[1] &= !PORTS;
            glance.value[1] &= !PORTS;
        }
        glances = distinct(glances);
    }
    if glances.len() > MAX_GLANCES || glances.contains(&Glance::default()) {
        return;
    }
    program.glances = u32::try_from(glances.len()).unwrap_or_default();
    program.glancing = 1;
    for (slot, glance) in program.glance.iter_mut().zip(glances) {
        *slot = glance;
    }
}

struct Ways<'a> {
    program: &'a Program,
    found: Vec<Glance>,
    steps: usize,
}

impl Ways<'_> {
    /// Walks on from the term of that index with what holds up to there; `None` when it is too much.
    fn walk(&mut self, index: u8, so_far: Glance) -> Option<()> {
        if index == ACCEPT {
            self.found.push(so_far);
            return Some(());
        }
        self.steps += 1;
        if index == REJECT || self.steps > STEPS {
            return (index == REJECT).then_some(());
        }
        let term = *self.program.terms.get(usize::from(index))?;
        for with in holding(&term, so_far).into_iter().flatten() {
            self.walk(term.on_true, with)?;
        }
        self.walk(term.on_false, so_far)
    }
}

/// The glance with the term holding as well, in either of two ways; none where a plain packet cannot.
fn holding(term: &Term, so_far: Glance) -> [Option<Glance>; 2] {
    let port = |at| {
        if term.low > term.high {
            return None;
        }
        if term.low < term.high {
            return Some(so_far);
        }
        let value = u64::from(term.low.to_be());
        require(so_far, 1, 0xffff_u64 << at, value << at)
    };
    // One place is enough; another is judged closely.
    let place = || Glance {
        kind: u32::from(term.kind),
        cgroup: term.value[0],
        netns: term.number,
        ..so_far
    };
    match term.kind {
        terms::HOST_EITHER => [SOURCE, DESTINATION].map(|at| address(term, so_far, at)),
        terms::HOST_SOURCE => [address(term, so_far, SOURCE), None],
        terms::HOST_DESTINATION => [address(term, so_far, DESTINATION), None],
        terms::PORT_EITHER => [SOURCE_PORT, DESTINATION_PORT].map(port),
        terms::PORT_SOURCE => [port(SOURCE_PORT), None],
        terms::PORT_DESTINATION => [port(DESTINATION_PORT), None],
        terms::PROTOCOL => {
            let protocol = u64::from(term.low);
            let plain = matches!(protocol, 6 | 17);
            let with = require(so_far, 1, 0xff << PROTOCOL, protocol << PROTOCOL);
            [with.filter(|_| plain), None]
        }
        terms::IP_VERSION => [(term.low == 4).then_some(so_far), None],
        terms::NETNS | terms::CGROUP => [Some(place()), None],
        terms::DEVICE => [Some(so_far), None],
        _ => [None; 2],
    }
}

/// With the IPv4 address of the term at that place; `None` where it is none.
fn address(term: &Term, so_far: Glance, at: u32) -> Option<Glance> {
    let mapped = from_ipv4([0; 4]);
    let possible = mapped[0] & term.mask[0] == term.value[0]
        && (mapped[1] & term.mask[1]) as u32 == term.value[1] as u32;
    if !possible {
        return None;
    }
    require(
        so_far,
        0,
        term.mask[1] >> 32 << at,
        term.value[1] >> 32 << at,
    )
}

/// With these bits of a word as well; `None` where they are others already.
fn require(mut glance: Glance, word: usize, mask: u64, value: u64) -> Option<Glance> {
    let both = glance.mask[word] & mask;
    if glance.value[word] & both != value & both {
        return None;
    }
    glance.mask[word] |= mask;
    glance.value[word] |= value;
    Some(glance)
}

/// Without those that another one is wider than, or the same.
fn distinct(glances: Vec<Glance>) -> Vec<Glance> {
    let mut kept: Vec<Glance> = Vec::new();
    for glance in glances {
        if kept.iter().any(|wider| is_wider(wider, &glance)) {
            continue;
        }
        kept.retain(|narrower| !is_wider(&glance, narrower));
        kept.push(glance);
    }
    kept
}

/// Whether the first fits all that the second fits.
fn is_wider(wide: &Glance, narrow: &Glance) -> bool {
    let header = (0..2).all(|word| {
        wide.mask[word] & narrow.mask[word] == wide.mask[word]
            && narrow.value[word] & wide.mask[word] == wide.value[word]
    });
    let place = |glance: &Glance| (glance.kind, glance.cgroup, glance.netns);
    header && (wide.kind == 0 || place(wide) == place(narrow))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::filter::Filter;

    fn glances(text: &str) -> Option<Vec<Glance>> {
        let filter = Filter::parse(text).unwrap();
        let resolved = filter.resolve(&BTreeMap::default()).unwrap();
        let program = resolved.compile().program;
        let count = usize::try_from(program.glances).unwrap();
        (program.glancing != 0).then(|| program.glance[..count].to_vec())
    }

    #[test]
    fn what_a_filter_needs_is_few_bits() {
        let count = |text| glances(text).map(|glances| glances.len());
        assert_eq!(count("host 10.96.0.10"), Some(2));
        assert_eq!(count("host 10.96.0.10 and port 80"), Some(4));
        assert_eq!(count("src host 10.96.0.10 and tcp"), Some(1));
        // A wider alternative has the narrower ones in it.
        assert_eq!(count("tcp or (tcp and port 80)"), Some(1));
        // Nothing that a plain packet could be.
        assert_eq!(count("icmp"), Some(0));
        assert_eq!(count("ip6"), Some(0));
        assert_eq!(count("host fd00::1"), Some(0));
        // Too many with ports, few without.
        assert_eq!(
            count("host 10.0.0.1 and (port 1 or port 2 or port 3)"),
            Some(2)
        );
    }

    #[test]
    fn what_says_nothing_is_not_asked() {
        assert_eq!(glances("ip"), None);
        assert_eq!(glances("not host 10.96.0.10"), None);
        assert_eq!(glances("portrange 1-1000"), None);
        assert_eq!(glances("dev eth0"), None);
        let many: Vec<_> = (1..20).map(|n| format!("host 10.0.0.{n}")).collect();
        assert_eq!(glances(&many.join(" or ")), None);
    }
}
