//! Whatever comes, the memory of all that traffic fills stays within what `--memory` leaves for it, and what
//! was let go is said.
//!
//! Hostile made-up traffic goes through pipeline and sinks as it would from the kernel, with the shares that
//! the command line derives; the allocator counts.

#[expect(
    dead_code,
    reason = "another test counts how often memory is asked for"
)]
#[path = "../benches/engine/counted.rs"]
mod counted;
#[path = "bounds/traffic.rs"]
mod traffic;

use std::{collections::BTreeMap, io};

use tracer::{
    cli::memory::Room,
    filter::Filter,
    journey::{Journeys, Patience, Reasons},
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::{
        Sink,
        json::JsonSink,
        terminal::Terminal,
        text::{Detail, TextSink},
    },
    pipeline::{Pipeline, When},
    report::Knowledge,
    source::{Batch, Notice},
    trace::{About, Reader, Steps, Writer},
    tui::{
        feed::{Feed, Shared},
        model::Model,
    },
};

use traffic::Traffic;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The least that may be asked for, and what is taken unless told.
const LEAST: u64 = 64 << 20;
const USUAL: u64 = 128 << 20;
/// Records in a batch, and in one that only a recording can have.
const BATCH: u64 = 2048;
const LARGE: u64 = 1 << 15;

/// Events for the usual memory: as many as a build for tests does in some seconds.
const MANY: u64 = if cfg!(debug_assertions) {
    150_000
} else {
    4_000_000
};

const ALL: [When; 3] = [When::AsTheyEnd, When::AsTheyChange, When::AtTheEnd];

fn sink(when: When, room: Room) -> Box<dyn Sink> {
    match when {
        When::AsTheyEnd => Box::new(JsonSink::new(io::sink())),
        When::AsTheyChange => Box::new(Feed::new(Shared::new(Model::new(room.shown())))),
        When::AtTheEnd => Box::new(TextSink::new(
            io::sink(),
            Terminal::default(),
            Detail::default(),
        )),
    }
}

/// What the most of memory was, and what was said.
fn run(
    batches: impl Iterator<Item = Batch>,
    when: When,
    room: Room,
) -> Result<(usize, Vec<String>)> {
    let known_reasons = DropReasons::default();
    let node = Snapshot::default();
    let known = Knowledge {
        node: &node,
        names: true,
        reasons: &known_reasons,
        function_at: &|_| None,
    };
    let (limits, held) = room.of(when);
    let (most, said) = counted::most(|| -> Result<Vec<String>> {
        let mut journeys = Journeys::new(limits, Patience::default(), Reasons::default());
        journeys.netfilter_observed_everywhere(0);
        let filter = Filter::default().resolve(&BTreeMap::new())?;
        let mut pipeline = Pipeline::new(journeys, filter, when, sink(when, room)).holding(held);
        let mut now = 0;
        for batch in batches {
            pipeline.batch(&batch, &known)?;
            now = batch
                .records
                .iter()
                .map(tracer::event::Record::time)
                .fold(now, u64::max);
            pipeline.advance(now, &known)?;
            pipeline.flush()?;
            pipeline.take_unknown();
            pipeline.take_sockets();
            pipeline.take_ports();
        }
        pipeline.finish(&known)?;
        Ok(pipeline.take_problems())
    });
    Ok((most, said?))
}

/// All that was said of that traffic.
fn stays_within(traffic: Traffic, events: u64, memory: u64) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for (batch, when) in [(BATCH, &ALL[..]), (LARGE, &ALL[..1])]
        .into_iter()
        .flat_map(|(batch, ways)| ways.iter().map(move |when| (batch, *when)))
    {
        let room = Room::within(memory);
        // The live view has a share for saving, which is not filled here.
        let saving = if when == When::AsTheyChange {
            room.kept()
        } else {
            0
        };
        // What a recording has at once is not the pipeline's to bound.
        let records = usize::try_from(batch - BATCH)? * size_of::<tracer::event::Record>();
        let bound = room.bytes() - saving + records;
        let (most, problems) = run(traffic.batches(events, batch), when, room)?;
        println!("{traffic:?} {when:?} {batch}: {most} of {bound}");
        assert!(
            most <= bound,
            "{traffic:?} {when:?}, batches of {batch}: {most} bytes of at most {bound}; {problems:?}"
        );
        said.extend(problems);
    }
    Ok(said)
}

/// What reading a recording takes that somebody made up without ticks of the clock, or of nothing else.
const READING: usize = 32 << 20;

/// The most of memory while a recording is read, step by step.
fn reading(make: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> Result<usize> {
    let mut writer = Writer::new(Vec::new(), &About::default())?;
    make(&mut writer)?;
    writer.finish()?;
    let file = writer.into_storage();
    let (most, steps) = counted::most(|| -> Result<u64> {
        let mut steps = Steps::new(Reader::open(io::Cursor::new(&file[..]))?);
        let mut count = 0;
        while steps.next_step()?.is_some() {
            count += 1;
        }
        assert!(steps.take_damages().is_empty());
        Ok(count)
    });
    println!("{most} bytes for {} steps of {} bytes", steps?, file.len());
    Ok(most)
}

#[test]
fn of_recordings_of_nothing_but_the_clock() -> Result<()> {
    let most = reading(|writer| (0..1_500_000).try_for_each(|_| writer.clock(1)))?;
    assert!(most <= READING, "{most}");
    Ok(())
}

#[test]
fn of_recordings_whose_clock_stands_still() -> Result<()> {
    let notice = Notice::Problem("x".repeat(60_000));
    let notices = Batch {
        notices: vec![notice; 1000],
        records: Vec::new(),
    };
    let most = reading(|writer| writer.batch(&notices))?;
    assert!(most <= READING, "{most}");
    let mut batches = Traffic::Distinct.batches(200_000, BATCH);
    let most = reading(|writer| batches.try_for_each(|batch| writer.batch(&batch)))?;
    assert!(most <= READING, "{most}");
    Ok(())
}

fn says(said: &[String], what: &str) -> bool {
    said.iter().any(|problem| problem.contains(what))
}

#[test]
fn of_distinct_flows() -> Result<()> {
    let said = stays_within(Traffic::Distinct, 60_000, LEAST)?;
    assert!(says(&said, "were given up before their end"), "{said:?}");
    assert!(says(&said, "too many to keep until the end"), "{said:?}");
    // Once in each of the four runs, and at once.
    let full = said
        .iter()
        .filter(|it| it.contains("more comes than --memory has room for"));
    assert_eq!(full.count(), 4, "{said:?}");
    Ok(())
}

#[test]
fn of_some_of_everything_with_the_usual_memory() -> Result<()> {
    let said = stays_within(Traffic::Mixed, MANY, USUAL)?;
    assert!(says(&said, "were given up before their end"), "{said:?}");
    Ok(())
}

#[test]
fn of_packets_that_never_end() -> Result<()> {
    let said = stays_within(Traffic::Endless, 30_000, LEAST)?;
    assert!(says(&said, "were given up before their end"), "{said:?}");
    Ok(())
}

/// What says what is wrong with flows is kept, and makes room.
#[test]
fn of_questions_without_answers() -> Result<()> {
    let said = stays_within(Traffic::Unanswered, 120_000, LEAST)?;
    assert!(
        says(&said, "what is wrong with them had to make room"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn of_drops_of_every_kind() -> Result<()> {
    let said = stays_within(Traffic::Dropped, 120_000, LEAST)?;
    assert!(
        says(&said, "what is wrong with them had to make room"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn of_buffers_that_are_merged() -> Result<()> {
    stays_within(Traffic::Merged, 60_000, LEAST).map(drop)
}

#[test]
fn of_names() -> Result<()> {
    stays_within(Traffic::Names, 30_000, LEAST).map(drop)
}

#[test]
fn of_nothing_but_holes() -> Result<()> {
    stays_within(Traffic::Holes, 40_000, LEAST).map(drop)
}

#[test]
fn of_namespaces_without_end() -> Result<()> {
    stays_within(Traffic::Namespaces, 40_000, LEAST).map(drop)
}

#[test]
fn of_copies_without_end() -> Result<()> {
    stays_within(Traffic::Copies, 30_000, LEAST).map(drop)
}

/// Time does not go on, so nothing is over by it.
#[test]
fn of_one_moment() -> Result<()> {
    stays_within(Traffic::Moment, 60_000, LEAST).map(drop)
}
