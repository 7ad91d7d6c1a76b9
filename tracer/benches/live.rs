//! The live view while a node is busy: 50,000 new connections a minute, each of ten packets and some 25
//! events a packet, come at their pace through the pipeline, while keys are pressed and frames drawn.
//!
//! `cargo bench -p tracer --bench live -- [SECONDS]`. The traffic is that of the benchmark of recordings.
//! The output is a table in Markdown; `cargo xtask bench live` puts it into docs/performance.md.

#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/table.rs"]
mod table;
#[path = "recording/taken.rs"]
mod taken;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/traffic.rs"]
mod traffic;

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{buffer::Buffer, layout::Rect, layout::Size};
use table::row;
use taken::{memory, used};
use tracer::{
    filter::Filter,
    journey::{Journeys, Limits, Patience, Reasons},
    node::reasons::DropReasons,
    output::terminal::Terminal,
    pipeline::{Pipeline, When},
    report::Knowledge,
    source::Batch,
    tui::{
        app::App,
        feed::{Feed, Shared},
        model::{Bounds, Model},
        view::{self, theme::Theme},
    },
};

const SECONDS: u64 = 60;
/// Events of a minute's connections: some 25 for each of ten packets.
const EVENTS_A_SECOND: u64 = 50_000 * 250 / 60;
/// Events that are taken at once.
const BATCH: u64 = 4_096;
/// Between two looks at the ring.
const TICK: Duration = Duration::from_millis(10);
const FRAME: Duration = Duration::from_millis(50);
const SCREEN: Size = Size {
    width: 200,
    height: 60,
};
/// What is pressed, over and over: moving, sorting, searching, opening, grouping.
const KEYS: &str = "jjGgsSr/a\n\n\x1bbjbbbc234 1pp";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let seconds = arguments.next().map_or(Ok(SECONDS), |word| word.parse())?;
    let shared = Shared::new(Model::new(Bounds::default()));
    let over = Arc::new(AtomicBool::new(false));
    let begin = used();
    let traced = {
        let (shared, over) = (shared.clone(), Arc::clone(&over));
        thread::spawn(move || trace(&shared, &over))
    };
    let seen = look(&shared, Duration::from_secs(seconds));
    over.store(true, Ordering::Relaxed);
    let flows = traced
        .join()
        .map_err(|_| "the thread that traces ended in a panic")??;
    let taken = used() - begin;

    let of_second = taken.as_secs_f64() / seconds_of(seconds);
    table::begin();
    row(
        "seconds, connections",
        format_args!("{seconds}, {flows}"),
        "50000 a minute",
    );
    let processors = format_args!("{of_second:.2}");
    row("processors in use", processors, "less than 1");
    let half = shown(seen.half);
    row(
        "from a key to the frame drawn with it, half of them",
        half,
        "",
    );
    let longest = format!("the longest of {}", seen.keys);
    row(&longest, shown(seen.longest), "less than 100 ms");
    let most = format!("{} MB", memory());
    row("memory at most, with the traffic's own", most, "");
    let model = shared.lock();
    let kept = format!("{} of {}", model.len(), Bounds::default().flows);
    row("connections kept, of at most", kept, "");
    row("let go, as the screen says", model.let_go().flows, "");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some minutes")]
fn seconds_of(seconds: u64) -> f64 {
    seconds as f64
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// How long it took.
struct Seen {
    keys: usize,
    half: Duration,
    longest: Duration,
}

/// Presses a key and draws, as often as the live view draws.
fn look(shared: &Shared, duration: Duration) -> Seen {
    let mut app = App::new("", |filter, _| filter.resolve(&BTreeMap::new()));
    let theme = Theme::new(Terminal {
        width: None,
        color: true,
        unicode: true,
    });
    let begin = Instant::now();
    let mut times = Vec::new();
    for key in KEYS.chars().cycle() {
        if begin.elapsed() >= duration {
            break;
        }
        thread::sleep(FRAME);
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            other => KeyCode::Char(other),
        };
        let pressed = Instant::now();
        let mut buffer = Buffer::empty(Rect::new(0, 0, SCREEN.width, SCREEN.height));
        app.key(
            KeyEvent::new(code, KeyModifiers::NONE),
            &shared.lock(),
            SCREEN,
        );
        {
            let model = shared.lock();
            app.fit(&model, SCREEN);
            view::draw(&app, &model, theme, &mut buffer);
        }
        times.push(pressed.elapsed());
    }
    times.sort_unstable();
    Seen {
        keys: times.len(),
        half: times.get(times.len() / 2).copied().unwrap_or_default(),
        longest: times.last().copied().unwrap_or_default(),
    }
}

/// Lets traffic come at its pace; gives the number of connections.
fn trace(shared: &Shared, over: &AtomicBool) -> Result<u64> {
    let filter = Filter::default().resolve(&BTreeMap::new())?;
    let journeys = Journeys::new(Limits::default(), Patience::default(), Reasons::default());
    let feed = Feed::new(shared.clone());
    let mut pipeline = Pipeline::new(journeys, filter, When::AsTheyChange, feed);
    let node = Arc::new(traffic::node());
    let reasons = DropReasons::default();
    let known = Knowledge {
        node: &node,
        names: true,
        reasons: &reasons,
        function_at: &|_| None,
    };
    let mut traffic = traffic::Traffic::new();
    let (begin, mut given) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let passed = u64::try_from(begin.elapsed().as_micros())?;
        // A look at the ring takes no more.
        let due = (passed * EVENTS_A_SECOND / 1_000_000 - given).min(BATCH);
        let records: Vec<_> = traffic.by_ref().take(usize::try_from(due)?).collect();
        given += due;
        let now = records.last().map(tracer::event::Record::time);
        let batch = Batch {
            records,
            notices: Vec::new(),
        };
        pipeline.batch(&batch, &known)?;
        if let Some(now) = now {
            pipeline.advance(now, &known)?;
            shared.tick(now, &node);
        }
        pipeline.flush()?;
        if due < BATCH {
            thread::sleep(TICK);
        }
    }
    let model = shared.lock();
    Ok(model.len() as u64 + model.let_go().flows)
}
