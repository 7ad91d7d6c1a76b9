//! What people are told of recordings before these are played.

use std::{
    io::{Read, Seek},
    time::Duration,
};

use jiff::tz::TimeZone;

use crate::{cli::moment, output::sanitize, source::NodeClock, trace::Nodes};

/// One line for people on what is going to be shown.
pub(super) fn introduce<R: Read + Seek>(timeline: &Nodes<R>) {
    let about = timeline.about();
    let begin = moment::begin(about.clock, &TimeZone::system());
    let host = sanitize::plain(&about.host);
    let kernel = sanitize::plain(&about.kernel);
    let (first, last) = timeline.times().unwrap_or_default();
    let records: u64 = timeline.readers().map(|(_, reader)| reader.records()).sum();
    let name = match timeline.readers().next() {
        Some((name, _)) if timeline.count() == 1 => name.to_owned(),
        _ => format!("{} recordings", timeline.count()),
    };
    eprintln!(
        "tracer: {name}: {host}, Linux {kernel}, {}, {:.1} s, {records} events",
        begin.strftime("%Y-%m-%d %H:%M:%S %Z"),
        seconds(last.saturating_sub(first)),
    );
    for clock in timeline.clocks() {
        eprintln!("tracer: {}", sanitize::plain(&clock_text(clock)));
    }
    for (name, _) in timeline
        .readers()
        .filter(|(_, reader)| !reader.ended_well())
    {
        eprintln!(
            "tracer: {name}: its end is missing: the tracer that recorded it did not end by itself"
        );
    }
}

/// How a node's clock stands to the first one's, for people.
fn clock_text(clock: &NodeClock) -> String {
    let NodeClock {
        node,
        ahead,
        error,
        packets: [there, back],
    } = clock;
    let how = if *ahead < 0 { "behind" } else { "ahead" };
    let by = format!("{:?} {how}", Duration::from_nanos(ahead.unsigned_abs()));
    let known = match (error, there + back) {
        (Some(error), _) => format!(
            "give or take {:?}, by {there} packets that came to it and {back} that came from it",
            Duration::from_nanos(*error)
        ),
        (None, 0) => "by the nodes' calendars: no packet went between them".to_owned(),
        (None, _) => "at the most or the least: packets went one way only".to_owned(),
    };
    format!("{node}'s clock is {by} ({known}); times are the first node's")
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
