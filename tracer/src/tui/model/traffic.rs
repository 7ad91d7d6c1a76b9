//! How much goes where: by pod or namespace, by device, by Service.

use std::collections::HashMap;

use super::series::Series;
use crate::{
    journey::model::{Direction, Stage, Verdict},
    report::{FlowReport, PacketReport},
};

/// Places of each kind that are told apart; the traffic of others is not shown by place.
const PLACES: usize = 4096;

/// What passes a place.
#[derive(Clone, Debug, Default)]
pub struct Flux {
    /// IP bytes out of a pod, through a device, or to a Service.
    pub sent: Series<4>,
    /// IP bytes into a pod, or from a Service.
    pub received: Series<4>,
    /// Packets dropped there.
    pub drops: u64,
}

/// All places.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// By the pod's or the namespace's name.
    pub places: HashMap<String, Flux>,
    /// By the namespace's name and the device's.
    pub devices: HashMap<(String, String), Flux>,
    /// By the Service's name.
    pub services: HashMap<String, Flux>,
}

impl Traffic {
    /// Counts a packet of a flow.
    pub fn add(&mut self, packet: &PacketReport, flow: Option<&FlowReport>) {
        let (Some(first), Some(last)) = (packet.hops.first(), packet.hops.last()) else {
            return;
        };
        let bytes = u64::from(packet.length);
        if let Some(flux) = first
            .called()
            .and_then(|name| entry(&mut self.places, name))
        {
            flux.sent.add(first.time, bytes);
        }
        if let Some(flux) = last.called().and_then(|name| entry(&mut self.places, name)) {
            match packet.verdict {
                Verdict::Delivered => flux.received.add(last.time, bytes),
                Verdict::Dropped => flux.drops += 1,
                Verdict::Left | Verdict::Unknown => {}
            }
        }
        for hop in &packet.hops {
            let sent = match hop.stage {
                Stage::DeviceTransmit => true,
                Stage::DeviceReceive | Stage::Bridge => false,
                _ => continue,
            };
            let (Some(netns), Some(device)) = (&hop.netns, &hop.device) else {
                continue;
            };
            let key = (netns.clone(), device.name.clone());
            if self.devices.len() >= PLACES && !self.devices.contains_key(&key) {
                continue;
            }
            let flux = self.devices.entry(key).or_default();
            let series = if sent {
                &mut flux.sent
            } else {
                &mut flux.received
            };
            series.add(hop.time, bytes);
        }
        if let Some(service) = flow.and_then(|flow| flow.service.as_ref())
            && let Some(flux) = entry(&mut self.services, &service.to_string())
        {
            match packet.direction {
                Direction::Original => flux.sent.add(last.time, bytes),
                Direction::Reply => flux.received.add(last.time, bytes),
            }
            flux.drops += u64::from(packet.verdict == Verdict::Dropped);
        }
    }
}

fn entry<'a>(places: &'a mut HashMap<String, Flux>, name: &str) -> Option<&'a mut Flux> {
    if !places.contains_key(name) {
        if places.len() >= PLACES {
            return None;
        }
        places.insert(name.to_owned(), Flux::default());
    }
    places.get_mut(name)
}
