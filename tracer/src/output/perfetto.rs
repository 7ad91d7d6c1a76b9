//! A timeline, for the Perfetto UI (ui.perfetto.dev) and chrome://tracing: the Trace Event Format, JSON.
//!
//! A process is a network namespace, a thread in it a flow; a packet's stay there is a slice, its hops
//! are slices inside that, and arrows lead from one stay to the next. One more process has each flow
//! from its first event to its last.
//!
//! Slices of one thread have to nest, and packets of one flow pass each other. So a flow has as many
//! threads in a namespace (`tracks`) as packets of it were there at once.
//!
//! Everything is written as it comes, numbers are given in order of appearance: the same recording
//! makes the same file. Times are microseconds since the recording began, with the nanoseconds behind
//! the point: readers keep them as doubles, which dates in nanoseconds would not fit.

mod event;
#[cfg(test)]
mod tests;
mod tracks;

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use self::{
    event::{Event, Time},
    tracks::{Tracks, Where},
};
use super::{Sink, origin::Origin, sanitize, text::words};
use crate::{
    journey::model::Stage,
    report::{FlowReport, HopReport, PacketReport, StatsReport, protocol_name},
};

/// The process that has the flows.
const FLOWS: u32 = 1;
/// So many stays of one packet can have arrows of their own.
const ARROWS: u64 = 1 << 12;

/// Writes a timeline.
#[derive(Debug)]
pub struct PerfettoSink<W> {
    out: W,
    origin: Origin,
    tracks: Tracks,
    begun: bool,
}

/// What a packet did in one namespace without leaving it.
struct Stay<'a> {
    hops: &'a [HopReport],
    /// When each of the hops began.
    times: Vec<u64>,
    /// When it left: its next hop elsewhere, or the end of its last one.
    end: u64,
}

impl Stay<'_> {
    fn begin(&self) -> u64 {
        self.times.first().copied().unwrap_or(0)
    }

    fn last(&self) -> u64 {
        self.times.last().copied().unwrap_or(0)
    }
}

impl<W: Write> PerfettoSink<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W, origin: Origin) -> Self {
        Self {
            out,
            origin,
            tracks: Tracks::default(),
            begun: false,
        }
    }

    /// Everything before the first event.
    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let about = json!({
            "begin": self.origin.date(self.origin.clock.monotonic),
            "begin_monotonic_ns": self.origin.clock.monotonic,
            "host": sanitize::plain(&self.origin.host),
            "kernel": sanitize::plain(&self.origin.kernel),
            "tracer": sanitize::plain(&self.origin.tracer),
        });
        writeln!(
            self.out,
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":["
        )?;
        let name = Event::process_name(FLOWS, "flows").to_json();
        self.out.write_all(name.as_bytes())
    }

    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.out.write_all(b",\n")?;
        self.out.write_all(event.to_json().as_bytes())
    }

    fn time(&self, time: u64) -> Time {
        Time(self.origin.since_begin(time))
    }

    /// The thread for a stay, which is told of where it is new.
    fn track(&mut self, packet: &PacketReport, stay: &Stay<'_>) -> io::Result<Where> {
        let first = &stay.hops[0];
        let place = [first.netns.as_deref(), first.pod.as_deref()];
        let track = self
            .tracks
            .place(place, packet.flow, (stay.begin(), stay.end));
        if let Some(number) = track.new_process {
            let name = sanitize::plain(first.called().unwrap_or("?")).into_owned();
            let netns = first.netns.as_deref().filter(|netns| *netns != name);
            let name = match netns {
                Some(netns) => format!("{name} ({})", sanitize::plain(netns)),
                None => name,
            };
            self.event(&Event::process_name(number, &name))?;
        }
        if track.new_thread {
            let name = format!("flow {} {}", packet.flow, protocol_name(packet.protocol));
            self.event(&Event::thread_name(track.at, &name))?;
            self.event(&Event::thread_order(track.at, packet.flow.0))?;
        }
        Ok(track.at)
    }

    fn stay(
        &mut self,
        packet: &PacketReport,
        number: u64,
        stay: &Stay<'_>,
        last: bool,
    ) -> io::Result<()> {
        let at = self.track(packet, stay)?;
        let label = words::label(packet);
        let (begin, end) = (self.time(stay.begin()), self.time(stay.end));
        let name = format!("{} {label}", words::arrow(packet.direction));
        let arguments = packet_arguments(packet);
        self.event(&Event::slice(at, &name, "packet", (begin, end), arguments))?;
        let nexts = stay.times.iter().skip(1).chain([&stay.end]);
        for (hop, (begin, next)) in stay.hops.iter().zip(stay.times.iter().zip(nexts)) {
            let time = (self.time(*begin), self.time(*next));
            self.hop(at, packet, hop, time)?;
        }
        // An arrow comes from where the packet left the stay before.
        let arrow = packet.id.0.wrapping_mul(ARROWS).wrapping_add(number);
        if number > 0 {
            self.event(&Event::arrow_head(at, arrow, begin))?;
        }
        if !last {
            let leaves = self.time(stay.last());
            self.event(&Event::arrow_tail(at, arrow.wrapping_add(1), leaves))?;
        }
        Ok(())
    }

    fn hop(
        &mut self,
        at: Where,
        packet: &PacketReport,
        hop: &HopReport,
        time: (Time, Time),
    ) -> io::Result<()> {
        let name = match &hop.device {
            Some(device) => format!("{} {}", hop.stage, sanitize::plain(&device.name)),
            None => hop.stage.to_string(),
        };
        let category = if hop.stage == Stage::Drop {
            "drop"
        } else {
            "hop"
        };
        let arguments = hop_arguments(packet, hop);
        self.event(&Event::slice(at, &name, category, time, arguments))
    }
}

/// A packet's stays, in order. Times of different processors can be off by microseconds: none is
/// before the one above it.
fn stays(packet: &PacketReport) -> Vec<Stay<'_>> {
    let same = |a: &HopReport, b: &HopReport| (&a.netns, &a.pod) == (&b.netns, &b.pod);
    let mut latest = 0;
    let mut stays: Vec<Stay<'_>> = Vec::new();
    for hops in packet.hops.chunk_by(same) {
        let times: Vec<u64> = hops
            .iter()
            .map(|hop| {
                latest = hop.time.max(latest);
                latest
            })
            .collect();
        let begin = times.first().copied().unwrap_or(latest);
        if let Some(before) = stays.last_mut() {
            before.end = begin;
        }
        let spent = hops.last().and_then(|hop| hop.spent).unwrap_or(0);
        stays.push(Stay {
            hops,
            times,
            end: latest.saturating_add(spent),
        });
    }
    stays
}

fn text(text: &str) -> Value {
    sanitize::plain(text).into()
}

fn packet_arguments(packet: &PacketReport) -> Map<String, Value> {
    let mut arguments = Map::new();
    arguments.insert("flow".to_owned(), packet.flow.0.into());
    arguments.insert("packet".to_owned(), packet.id.0.into());
    arguments.insert("direction".to_owned(), packet.direction.as_str().into());
    arguments.insert("verdict".to_owned(), packet.verdict.as_str().into());
    arguments.insert("length".to_owned(), packet.length.into());
    arguments.insert("payload".to_owned(), packet.payload.into());
    if let Some(drop) = &packet.drop {
        arguments.insert("drop".to_owned(), text(&words::drop(drop)));
    }
    arguments
}

fn hop_arguments(packet: &PacketReport, hop: &HopReport) -> Map<String, Value> {
    let mut arguments = Map::new();
    let mut add = |name: &str, value: Value| arguments.insert(name.to_owned(), value);
    add("tuple", text(&words::tuple(&hop.tuple)));
    add("monotonic_ns", hop.time.into());
    if let Some(spent) = hop.spent {
        add("spent_ns", spent.into());
    }
    for report in &hop.translations {
        add(
            report.kind.as_str(),
            text(&words::translation(packet.protocol, report)),
        );
        if let Some(rule) = &report.rule {
            add("rule", text(&words::translating(rule)));
        }
    }
    if let Some(tunnel) = hop.encapsulation {
        add("tunnel", text(&words::tunnel(tunnel)));
    }
    if let Some(hole) = hop.hole {
        add("hole", text(&words::hole(hole)));
    }
    let drop = packet.drop.as_ref().filter(|_| hop.stage == Stage::Drop);
    if let Some(drop) = drop {
        add("drop", text(&words::drop(drop)));
        if let Some(rule) = &drop.rule {
            add("rule", text(&words::dropping(rule)));
        }
    }
    arguments
}

impl<W: Write> Sink for PerfettoSink<W> {
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.begin()?;
        let stays = stays(packet);
        for (number, stay) in (0..).zip(&stays) {
            let last = stays.len() as u64 == number + 1;
            self.stay(packet, number, stay, last)?;
        }
        Ok(())
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.begin()?;
        let name = words::flow(flow);
        for at in self.tracks.end(flow.id) {
            self.event(&Event::thread_name(at, &name))?;
        }
        let at = Where {
            process: FLOWS,
            thread: self.tracks.next_thread(),
        };
        self.event(&Event::thread_name(at, &name))?;
        self.event(&Event::thread_order(at, flow.id.0))?;
        let mut arguments = Map::new();
        let mut add = |name: &str, value: Value| arguments.insert(name.to_owned(), value);
        add("flow", flow.id.0.into());
        add("state", flow.state.as_str().into());
        add("packets_original", flow.packets[0].into());
        add("packets_reply", flow.packets[1].into());
        add("drops", flow.drops.into());
        add("holes", flow.holes.into());
        if let Some(service) = &flow.service {
            add("service", text(&service.to_string()));
        }
        let time = (self.time(flow.first), self.time(flow.last.max(flow.first)));
        self.event(&Event::slice(at, &name, "flow", time, arguments))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        self.begin()?;
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()
    }
}
