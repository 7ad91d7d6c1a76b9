//! The thread that traces for the live view.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ViewArgs;
use crate::{
    cli::{
        resolution,
        screen::News,
        session::{Kept, Session, Step, Subject, Target},
    },
    filter::Filter,
    kernel::{
        cost::{Cost, Metering},
        plan::Plan,
    },
    output::{pipe::Closed, sanitize},
    pipeline::When,
    privilege::Role,
    tui::{
        app::App,
        feed::{Feed, Shared},
        model::ProgramCost,
    },
};

/// What the thread is asked.
enum Order {
    Save(PathBuf),
    End,
}

/// What it says.
enum Told {
    /// Everything is attached.
    Attached,
    /// For the user; whether something is wrong.
    Said(String, bool),
}

/// The thread.
pub(super) struct Tracing {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    orders: UnboundedSender<Order>,
    told: Receiver<Told>,
    filter: String,
}

impl Tracing {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(args: &ViewArgs, filter: Filter, shared: &Shared) -> anyhow::Result<Self> {
        let (orders, ordered) = unbounded_channel();
        let (teller, told) = channel();
        let work = Work {
            args: args.clone(),
            filter,
            shared: shared.clone(),
            ordered,
            teller,
        };
        let thread = thread::Builder::new()
            .name("tracing".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            thread: Some(thread),
            orders,
            told,
            filter: args.filter.join(" "),
        })
    }

    /// The filter of the command line.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Asks for a recording of what was seen.
    pub(super) fn save(&self, path: PathBuf) {
        // Who is not there any more is news by itself.
        let _ = self.orders.send(Order::Save(path));
    }

    /// Takes what it said.
    pub(super) fn listen(&self, app: &mut App) -> News {
        let mut news = News::None;
        loop {
            match self.told.try_recv() {
                Ok(Told::Attached) => app.waiting.clear(),
                Ok(Told::Said(text, problem)) => app.say(text, problem),
                Err(TryRecvError::Empty) => return news,
                Err(TryRecvError::Disconnected) => return News::Over,
            }
            news = News::Changed;
        }
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub(super) fn join(mut self) -> anyhow::Result<()> {
        let _ = self.orders.send(Order::End);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow::anyhow!("the thread that traces ended in a panic")),
            None => Ok(()),
        }
    }
}

/// The thread's work.
struct Work {
    args: ViewArgs,
    filter: Filter,
    shared: Shared,
    ordered: UnboundedReceiver<Order>,
    teller: Sender<Told>,
}

impl Work {
    fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.trace())
    }

    async fn trace(mut self) -> anyhow::Result<()> {
        let args = &self.args;
        let node = args.live.node()?;
        let filter = resolution::resolve_live(&self.filter, node.watched())?;
        let compiled = filter.compile();
        let text = args.filter.join(" ");
        let subject = Subject {
            text: &text,
            program: &compiled.program,
            by_filter: true,
            filter,
            command: None,
        };
        let shared = self.shared.clone();
        let room = args.live.room();
        let (limits, held) = room.view();
        let target = Target {
            sink: Feed::new(self.shared.clone()),
            closed: Closed::default(),
            when: When::AsTheyChange,
            names: !args.no_names,
            record: args.record.options(),
            bytes: None,
            keep: Some(Kept::of(room.kept())),
            limits,
            held,
            say: Box::new(move |text| shared.lock().problem(&sanitize::plain(text))),
        };
        let mut session = Session::start(node, subject, &args.live, target)?;
        let mut meter = args.cost.then(|| Meter::begin(&self.shared)).flatten();
        session.give_up_privileges(Role::Live);
        self.shared.lock().plan = lines(session.plan());
        // Who does not listen any more is about to end this thread.
        let _ = self.teller.send(Told::Attached);
        loop {
            tokio::select! {
                biased;
                order = self.ordered.recv() => match order {
                    Some(Order::Save(path)) => {
                        let _ = self.teller.send(save(&session, path));
                    }
                    Some(Order::End) | None => break,
                },
                step = session.step() => {
                    let over = step? == Step::Over;
                    self.shared.tick(session.pipeline().now(), &session.node());
                    if let Some(meter) = &mut meter {
                        meter.show(&self.shared);
                    }
                    if over {
                        break;
                    }
                }
            }
        }
        if session.recorder().is_some() {
            session.finish().await?;
        }
        Ok(())
    }
}

/// What the attached programs cost, on the screen.
struct Meter {
    metering: Metering,
    before: Vec<Cost>,
    at: Instant,
}

impl Meter {
    const PERIOD: Duration = Duration::from_secs(1);

    fn begin(shared: &Shared) -> Option<Self> {
        match Metering::begin() {
            Ok(metering) => Some(Self {
                before: metering.read(),
                metering,
                at: Instant::now(),
            }),
            Err(error) => {
                shared.lock().problem(&format!("--cost: {error}"));
                None
            }
        }
    }

    /// Shows what the last second took.
    fn show(&mut self, shared: &Shared) {
        let passed = self.at.elapsed();
        if passed < Self::PERIOD {
            return;
        }
        let now = self.metering.read();
        let costs = now.iter().map(|cost| {
            let mut before = self.before.iter();
            let before = before.find(|before| before.program == cost.program);
            let (runs, time) = before.map_or((0, Duration::ZERO), |it| (it.runs, it.time));
            ProgramCost {
                program: cost.program.clone(),
                runs: cost.runs.saturating_sub(runs),
                time: cost.time.saturating_sub(time),
                within: passed,
            }
        });
        shared.lock().cost(costs.collect());
        self.before = now;
        self.at = Instant::now();
    }
}

fn save(session: &Session<Feed>, path: PathBuf) -> Told {
    let name = sanitize::plain(&path.to_string_lossy()).into_owned();
    match session.save(path) {
        Ok(events) => Told::Said(
            format!("wrote {name}: {events} events; `tracer replay {name}` shows them"),
            false,
        ),
        Err(error) => Told::Said(sanitize::plain(&format!("{error:#}")).into_owned(), true),
    }
}

/// How it is attached, for the screen.
pub(in crate::cli) fn lines(plan: &Plan) -> Vec<[String; 3]> {
    let families = plan.families.iter();
    let line = |family: &crate::kernel::plan::Family| {
        let choice = family.choice.clone();
        let degraded = family.degraded.as_ref();
        [
            family.kind.to_string(),
            choice.unwrap_or_else(|| "not observed".to_owned()),
            degraded.map_or(String::new(), |lack| {
                format!("{}; {}", lack.what, lack.remedy)
            }),
        ]
    };
    families.map(line).collect()
}
