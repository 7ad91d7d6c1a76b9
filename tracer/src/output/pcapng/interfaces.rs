//! A capture's interfaces: one for each device of each namespace.
//!
//! They are described when they are seen first. Their number is bounded: a node that is left
//! recorded for weeks has had very many pods, and a recording may claim anything.

use std::collections::HashMap;

use super::block;
use crate::{output::sanitize, report::HopReport};

/// How many interfaces are told apart.
const INTERFACES: usize = 1 << 14;

/// What tells interfaces apart: namespace, pod and device by their names.
type Place = [Option<String>; 3];

/// The interfaces so far.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    known: HashMap<Place, u32>,
    /// The one that stands for all further ones.
    others: Option<u32>,
}

impl Interfaces {
    /// The number of a hop's interface; with its description where it is new.
    pub(super) fn of(&mut self, hop: &HopReport) -> (u32, Option<Vec<u8>>) {
        let device = hop.device.as_ref();
        let place = [
            hop.netns.clone(),
            hop.pod.clone(),
            device.map(|device| device.name.clone()),
        ];
        if let Some(number) = self.known.get(&place) {
            return (*number, None);
        }
        // There are at most as many as can be told apart, and one more.
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        if self.known.len() >= INTERFACES {
            let new = self.others.is_none();
            let number = *self.others.get_or_insert(next);
            let text = "devices beyond the first 16384; the comments say which";
            return (number, new.then(|| block::interface("others", text)));
        }
        let description = describe(hop);
        self.known.insert(place, next);
        (next, Some(description))
    }
}

/// `node1/cni0`, `bridge in network namespace node1`.
fn describe(hop: &HopReport) -> Vec<u8> {
    let netns = hop.netns.as_deref().unwrap_or("?");
    let device = hop.device.as_ref();
    let name = device.map_or("no device", |device| device.name.as_str());
    let kind = device.map(|device| device.kind.as_deref().unwrap_or("device"));
    let kind = kind.unwrap_or("what was in no device");
    let mut description = format!("{kind} in network namespace {netns}");
    if let Some(pod) = &hop.pod {
        description.push_str(&format!(", of the pod {pod}"));
    }
    let name = format!("{netns}/{name}");
    block::interface(&sanitize::plain(&name), &sanitize::plain(&description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios;

    #[test]
    fn their_number_is_bounded() {
        let mut hop = scenarios::echo().packets[0].hops[0].clone();
        let mut interfaces = Interfaces::default();
        for number in 0..INTERFACES + 100 {
            hop.netns = Some(format!("net:{number}"));
            let (at, new) = interfaces.of(&hop);
            assert_eq!(at as usize, number.min(INTERFACES));
            assert_eq!(new.is_some(), number <= INTERFACES);
            assert_eq!(interfaces.of(&hop), (at, None));
        }
    }
}
