//! The thread that plays a recording for the live view: at the pace at which it happened, faster or
//! slower, step by step, on to the next drop, from another time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::ReplayArgs;
use crate::{
    cli::{
        playback::{self, Playing},
        screen::{Engine, News},
    },
    kernel::plan::Plan,
    output::origin::Origin,
    pipeline::When,
    tui::{
        app::{
            App, Effect,
            playback::{Playback, Player},
        },
        feed::{Feed, Shared},
    },
};

/// How far a jump goes, in nanoseconds.
const JUMP: u64 = 5_000_000_000;
/// The fastest pace; beyond is as fast as can be.
const FASTEST: f64 = 64.0;
/// The slowest.
const SLOWEST: f64 = 1.0 / 64.0;
/// The longest wait for the next step: keys are looked for in between.
const WAIT: Duration = Duration::from_millis(20);

/// How it stands, as the screen is told.
type Standing = Arc<Mutex<Playback>>;

/// The thread.
pub(super) struct Replaying {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    orders: Option<Sender<Player>>,
    standing: Standing,
    origin: Origin,
}

impl Replaying {
    /// Starts to play from the begin, as fast as can be: at first all is seen.
    ///
    /// # Errors
    /// When the recording cannot be opened, and when there can be no thread.
    pub(super) fn start(args: &ReplayArgs, shared: &Shared) -> anyhow::Result<Self> {
        let play = super::open(args)?;
        let origin = Origin::from(play.about());
        let span = play.times();
        let first = Playback {
            playing: true,
            speed: None,
            span,
            position: span.0,
            began: i128::from(origin.realtime(span.0)),
            at_end: false,
        };
        let standing: Standing = Arc::new(Mutex::new(first));
        let (orders, ordered) = channel();
        let work = Work {
            args: args.clone(),
            shared: shared.clone(),
            standing: Arc::clone(&standing),
            ordered,
            playback: first,
            pace: (Instant::now(), first.position),
        };
        // What is read is not sent between threads: it is opened where it is played.
        let thread = thread::Builder::new()
            .name("playing".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            thread: Some(thread),
            orders: Some(orders),
            standing,
            origin,
        })
    }

    fn standing(&self) -> Playback {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Replaying {
    fn news(&mut self, app: &mut App) -> News {
        let standing = Some(self.standing());
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return News::Over;
        }
        if app.playback == standing {
            return News::None;
        }
        app.playback = standing;
        News::Changed
    }

    fn perform(&mut self, effect: &Effect) -> anyhow::Result<Option<String>> {
        match (effect, &self.orders) {
            (Effect::Play(order), Some(orders)) => {
                // That nobody listens any more is news.
                let _ = orders.send(*order);
                Ok(None)
            }
            (Effect::Save, _) => anyhow::bail!("this is a recording already"),
            _ => Ok(None),
        }
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn end(mut self) -> anyhow::Result<()> {
        // Who has no orders to expect ends.
        self.orders = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow::anyhow!("the thread that plays ended in a panic")),
            None => Ok(()),
        }
    }
}

/// The thread's work.
struct Work {
    args: ReplayArgs,
    shared: Shared,
    standing: Standing,
    ordered: Receiver<Player>,
    playback: Playback,
    /// When which position was shown, from where on it goes at its pace.
    pace: (Instant, u64),
}

/// What a step is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// None: it plays or is paused.
    None,
    /// The next step in which something comes.
    Step,
    /// The next drop, after so many.
    Drop(u64),
    /// This time.
    Time(u64),
}

impl Work {
    fn run(mut self) -> anyhow::Result<()> {
        let mut playing = self.begin(super::open(&self.args)?);
        let mut goal = Goal::None;
        loop {
            let wait = self.wait(goal, &mut playing)?;
            let order = match wait {
                Some(wait) => self.ordered.recv_timeout(wait),
                None => self.ordered.recv().map_err(RecvTimeoutError::from),
            };
            match order {
                Ok(order) => {
                    goal = self.obey(order, &mut playing)?;
                    self.pace = (Instant::now(), self.playback.position);
                    self.tell();
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if wait == Some(Duration::ZERO) => {
                    self.step(&mut playing, &mut goal)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// How long the next order is waited for before it goes on; `None`: until there is one.
    fn wait(&self, goal: Goal, playing: &mut Playing<Feed>) -> anyhow::Result<Option<Duration>> {
        let goes_on = self.playback.playing || goal != Goal::None;
        Ok(match goes_on && !self.playback.at_end {
            false => None,
            true if goal == Goal::None && self.early(playing)? => Some(WAIT),
            true => Some(Duration::ZERO),
        })
    }

    fn begin(&self, recording: playback::Playback) -> Playing<Feed> {
        let plan = serde_json::from_value::<Plan>(recording.about().plan.clone());
        self.shared.lock().plan = plan
            .as_ref()
            .map(crate::cli::live::lines)
            .unwrap_or_default();
        recording.begin(When::AsTheyChange, Feed::new(self.shared.clone()))
    }

    /// Whether the next step is not due yet.
    fn early(&self, playing: &mut Playing<Feed>) -> anyhow::Result<bool> {
        let (since, position) = self.pace;
        let Some(speed) = self.playback.speed else {
            return Ok(false);
        };
        let Some(next) = playing.next_time()? else {
            return Ok(false);
        };
        let ahead = Duration::from_nanos(next.saturating_sub(position));
        Ok(since.elapsed().mul_f64(speed) < ahead)
    }

    fn step(&mut self, playing: &mut Playing<Feed>, goal: &mut Goal) -> anyhow::Result<()> {
        let before = playing.now();
        let came = playing.step()?;
        for problem in playing.take_problems() {
            self.shared.lock().problem(&problem);
        }
        playing.flush()?;
        let now = playing.now();
        self.shared.tick(now, playing.node());
        self.playback.position = self.playback.position.max(now.min(self.playback.span.1));
        self.playback.at_end = !came;
        let reached = match *goal {
            Goal::None => true,
            Goal::Step => now > before,
            Goal::Drop(before) => self.shared.lock().drops.total() > before,
            Goal::Time(time) => now >= time,
        };
        if *goal != Goal::None && (reached || self.playback.at_end) {
            *goal = Goal::None;
            // What was passed over took no time.
            self.pace = (Instant::now(), self.playback.position);
        }
        if self.playback.at_end {
            self.playback.playing = false;
        }
        self.tell();
        Ok(())
    }

    fn obey(&mut self, order: Player, playing: &mut Playing<Feed>) -> anyhow::Result<Goal> {
        let playback = &mut self.playback;
        match order {
            Player::Toggle if playback.at_end => {
                self.again(playing)?;
                self.playback.playing = true;
                self.playback.speed = Some(1.0);
            }
            Player::Toggle => playback.playing = !playback.playing,
            Player::Faster => {
                let faster = playback.speed.map(|speed| speed * 2.0);
                playback.speed = faster.filter(|speed| *speed <= FASTEST);
            }
            Player::Slower => {
                let slower = playback.speed.map_or(FASTEST, |speed| speed / 2.0);
                playback.speed = Some(slower.max(SLOWEST));
            }
            Player::Step => {
                playback.playing = false;
                return Ok(Goal::Step);
            }
            Player::NextDrop => {
                playback.playing = false;
                let drops = self.shared.lock().drops.total();
                return Ok(Goal::Drop(drops));
            }
            Player::Forward => {
                return Ok(Goal::Time(playback.position.saturating_add(JUMP)));
            }
            Player::Rewind => {
                let back = playback.position.saturating_sub(JUMP);
                let to = back.max(playback.span.0);
                let was = playback.playing;
                self.again(playing)?;
                self.playback.playing = was;
                return Ok(Goal::Time(to));
            }
            Player::Restart => self.again(playing)?,
        }
        Ok(Goal::None)
    }

    /// From the begin, paused.
    fn again(&mut self, playing: &mut Playing<Feed>) -> anyhow::Result<()> {
        let recording = super::open(&self.args)?;
        self.shared.lock().clear();
        *playing = self.begin(recording);
        self.playback.position = self.playback.span.0;
        self.playback.at_end = false;
        self.playback.playing = false;
        Ok(())
    }

    fn tell(&self) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = self.playback;
    }
}
