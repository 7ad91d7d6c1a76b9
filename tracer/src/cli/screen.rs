//! The terminal's side of the live view: keys in, frames out.
//!
//! Three threads: one reads keys, one traces or plays (and fills the model), and this one draws. A frame
//! is drawn when something changed, at most twenty times a second; the model is locked while the frame
//! is put together in memory, and not while it goes to the terminal, which may be slow.

mod own;
mod terminal;

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::layout::Size;
use tokio::sync::mpsc;

use self::{own::Meter, terminal::Guard};
use super::{Usage, export::Target, interrupts::Interrupts};
use crate::{
    journey::model::FlowId,
    output::{
        Sink as _,
        html::HtmlSink,
        origin::Origin,
        sanitize,
        terminal::{Color, Terminal},
    },
    tui::{
        app::{App, Effect},
        feed::Shared,
        view::{self, theme::Theme},
    },
};

/// Between two frames, and between two looks at whether anything changed.
const FRAME: Duration = Duration::from_millis(50);
/// Keys that wait, and that are done before the screen is drawn again.
const AT_ONCE: usize = 256;
/// How often the reader of keys looks whether it should end.
const KEYS: Duration = Duration::from_millis(200);

/// Who traces or plays.
pub(super) trait Engine {
    /// What happened since this was asked last.
    fn news(&mut self, app: &mut App) -> News;

    /// Does what the user asked for; what it says is shown.
    ///
    /// # Errors
    /// Why not, for the user.
    fn perform(&mut self, effect: &Effect) -> anyhow::Result<Option<String>>;

    /// Where an exported page comes from.
    fn origin(&self) -> Origin;

    /// Ends.
    ///
    /// # Errors
    /// What went wrong meanwhile.
    fn end(self) -> anyhow::Result<()>;
}

/// What happened outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing that is seen.
    None,
    /// Something that is seen.
    Changed,
    /// It ended by itself.
    Over,
}

/// Fails where there is no terminal to draw on.
///
/// # Errors
/// [`Usage`].
pub(super) fn check() -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "the live view needs a terminal; `tracer watch` prints journeys as they complete"
    );
    Err(Usage(error).into())
}

/// Shows the app until the user quits, a signal asks for the end, or the engine is over.
///
/// # Errors
/// The terminal's, and the engine's.
pub(super) fn run(
    mut app: App,
    shared: &Shared,
    mut engine: impl Engine,
    color: Color,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let terminal = Terminal::of(&std::io::stdout(), color);
    // What was decided here is not to be decided again below.
    crossterm::style::force_color_output(terminal.color);
    let theme = Theme::new(terminal);
    // Before the terminal is another: who ends the process at once does not set it back.
    let interrupts = {
        let _inside = runtime.enter();
        Interrupts::new()?
    };
    let guard = Guard::enter().context("cannot set the terminal up")?;
    let shown = show(&mut app, shared, &mut engine, interrupts, (guard, theme));
    let shown = runtime.block_on(shown);
    // The terminal is as before from here on.
    let ended = engine.end();
    shown.and(ended)
}

async fn show(
    app: &mut App,
    shared: &Shared,
    engine: &mut impl Engine,
    mut interrupts: Interrupts,
    (mut guard, theme): (Guard, Theme),
) -> anyhow::Result<()> {
    let (_keys, mut events) = Keys::read();
    let mut meter = Meter::new();
    let mut drawn = None;
    let mut next_frame = Instant::now();
    loop {
        if terminal::panicked() {
            anyhow::bail!("a part of the tracer ended in a panic");
        }
        let news = engine.news(app);
        if let Some(own) = meter.read() {
            shared.lock().own = own;
        }
        let version = shared.lock().version();
        let changed = news == News::Changed || drawn != Some(version);
        if changed && Instant::now() >= next_frame {
            guard.draw(|frame| {
                let model = shared.lock();
                app.fit(&model, frame.area().as_size());
                view::draw(app, &model, theme, frame.buffer_mut());
            })?;
            drawn = Some(version);
            next_frame = Instant::now() + FRAME;
        }
        if news == News::Over {
            return Ok(());
        }
        let pause = next_frame.saturating_duration_since(Instant::now());
        let pause = if pause.is_zero() { FRAME } else { pause };
        tokio::select! {
            biased;
            () = interrupts.next() => return Ok(()),
            event = events.recv() => {
                let Some(event) = event else {
                    // The terminal is gone.
                    return Ok(());
                };
                // Not without end: what is pasted comes faster than it is done.
                let more = std::iter::from_fn(|| events.try_recv().ok());
                for next in std::iter::once(event).chain(more).take(AT_ONCE) {
                    if happened(app, shared, engine, (&mut guard, next))? {
                        return Ok(());
                    }
                }
                drawn = None;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Something happened at the terminal; says whether it is the end.
fn happened(
    app: &mut App,
    shared: &Shared,
    engine: &mut impl Engine,
    (guard, event): (&mut Guard, Event),
) -> anyhow::Result<bool> {
    let size = guard.size()?;
    let effect = acted(app, &shared.lock(), size, event);
    let Some(effect) = effect else {
        return Ok(false);
    };
    let said = match &effect {
        Effect::Quit => return Ok(true),
        Effect::Copy(text) => {
            guard.copy(text)?;
            Ok(Some("copied, if the terminal allows it".to_owned()))
        }
        Effect::Export(flow) => export(shared, *flow, engine.origin()).map(Some),
        Effect::Save | Effect::Play(_) => engine.perform(&effect),
    };
    match said {
        Ok(Some(text)) => app.say(sanitize::plain(&text), false),
        Ok(None) => {}
        Err(error) => app.say(sanitize::plain(&format!("{error:#}")), true),
    }
    Ok(false)
}

fn acted(
    app: &mut App,
    model: &crate::tui::model::Model,
    size: Size,
    event: Event,
) -> Option<Effect> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => app.key(key, model, size),
        Event::Mouse(mouse) => app.mouse(mouse, model, size),
        Event::Paste(text) => {
            app.paste(&text);
            None
        }
        _ => None,
    }
}

/// Writes a flow and its packets as a page into the current directory.
fn export(shared: &Shared, flow: FlowId, origin: Origin) -> anyhow::Result<String> {
    let row = shared.lock().row(flow).cloned();
    let row = row.context("the flow is not kept any more")?;
    let path = PathBuf::from(format!("flow-{flow}.html"));
    anyhow::ensure!(
        !path.exists(),
        "{} exists: move it away first",
        path.display()
    );
    let target = Target::file(&path, false, &[])?;
    let stats = shared.lock().counters.last.clone();
    let written = target.writer().and_then(|out| {
        let mut sink = HtmlSink::new(out, origin);
        for packet in &row.packets {
            sink.packet(packet)?;
        }
        sink.flow(&row.report)?;
        sink.finish(&stats)
    });
    match written {
        Ok(()) => target.keep()?,
        Err(error) => {
            target.drop_it();
            return Err(error.into());
        }
    }
    Ok(format!("wrote {}", path.display()))
}

/// The thread that reads keys; ends with this.
struct Keys(Arc<AtomicBool>);

impl Keys {
    fn read() -> (Self, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(AT_ONCE);
        let over = Arc::new(AtomicBool::new(false));
        let keys = Self(Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let event = match event::poll(KEYS) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                // Without terminal there is nothing to read: who waits for keys is told by the end.
                let Ok(event) = event else { return };
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        (keys, events)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
