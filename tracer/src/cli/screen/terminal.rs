//! The terminal as long as the live view has it: raw, the alternate screen, the mouse. However that
//! ends (also in a panic), it is left as it was.

use std::{
    io::{self, BufWriter, Stdout, Write as _},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    clipboard::CopyToClipboard,
    cursor,
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    execute, terminal,
};
use ratatui::{Frame, Terminal, backend::CrosstermBackend, layout::Size};

/// Whether a thread panicked while the terminal was ours.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// Whether the terminal is ours.
static OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Whether a thread panicked: the terminal was given back then, and nothing may be drawn any more.
pub(super) fn panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// The terminal, ours.
pub(super) struct Guard {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Guard {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn enter() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if OURS.load(Ordering::Relaxed) {
                    PANICKED.store(true, Ordering::Relaxed);
                    give_back();
                }
                before(info);
            }));
        });
        terminal::enable_raw_mode()?;
        OURS.store(true, Ordering::Relaxed);
        let entered = execute!(
            io::stdout(),
            terminal::EnterAlternateScreen,
            EnableMouseCapture,
            EnableBracketedPaste,
            cursor::Hide
        );
        let terminal = entered
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout()))));
        match terminal {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Its size.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn size(&self) -> io::Result<Size> {
        self.terminal.size()
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if panicked() {
            return Ok(());
        }
        self.terminal.draw(draw).map(drop)
    }

    /// Gives a text to the terminal's clipboard (OSC 52), which may be at the other end of a network.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. What fails is not said: there is nowhere to say it.
fn give_back() {
    if !OURS.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = execute!(
        io::stdout(),
        DisableBracketedPaste,
        DisableMouseCapture,
        terminal::LeaveAlternateScreen,
        cursor::Show
    );
    let _ = terminal::disable_raw_mode();
    let _ = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set where the test is its own child.
    const CHILD: &str = "TRACER_TEST_PANICS";

    /// Run by the test below on a terminal of its own; elsewhere it does nothing.
    #[test]
    fn child_that_panics() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let guard = Guard::enter().unwrap();
        let other = std::thread::spawn(|| panic!("as a test"));
        assert!(other.join().is_err());
        assert!(panicked());
        drop(guard);
    }

    #[test]
    fn a_panic_is_read_on_the_terminal_as_it_was() {
        let test = std::env::current_exe().unwrap();
        let child = "cli::screen::terminal::tests::child_that_panics";
        let command = format!("{} --exact {child} --nocapture", test.display());
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]);
        let Ok(output) = script.env(CHILD, "1").env("TERM", "xterm").output() else {
            eprintln!("skipped: there is no `script` (bsdutils)");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let at = |words: &str| {
            text.find(words)
                .unwrap_or_else(|| panic!("{words:?} not in {text:?}"))
        };
        let (entered, left) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(entered < left && left < at("as a test"), "{text:?}");
        assert!(at("\x1b[?25h") < at("as a test"), "{text:?}");
        assert!(output.status.success(), "{text:?}");
    }
}
