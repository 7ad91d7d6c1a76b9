//! What the place that text goes to can show: its width, its colours, its characters.
//!
//! The decisions are functions of values; only [`Terminal::of`] looks at the process's
//! environment.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::IsTerminal,
    os::fd::AsFd,
};

/// When text is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    #[default]
    Auto,
    /// Also in files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// What can be shown. The default is what a file takes: any width, no colour, ASCII.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Columns; `None` where there is no limit.
    pub width: Option<usize>,
    /// Whether escape sequences set colours.
    pub color: bool,
    /// Whether characters beyond ASCII are shown.
    pub unicode: bool,
}

impl Terminal {
    /// What this output, one of the process's own, can show.
    #[must_use]
    pub fn of(output: &(impl IsTerminal + AsFd), color: Color) -> Self {
        let is_terminal = output.is_terminal();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(env::var_os);
        let width = is_terminal.then(|| rustix::termios::tcgetwinsize(output));
        Self {
            width: width
                .and_then(Result::ok)
                .map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0),
            color: colored(
                color,
                is_terminal,
                env::var_os("NO_COLOR").as_deref(),
                env::var_os("TERM").as_deref(),
            ),
            unicode: is_unicode(&locale),
        }
    }
}

fn colored(
    color: Color,
    is_terminal: bool,
    no_color: Option<&OsStr>,
    terminal: Option<&OsStr>,
) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            is_terminal
                && no_color.is_none_or(OsStr::is_empty)
                && terminal.is_some_and(|name| name != "dumb")
        }
    }
}

/// Whether the locale that these variables set, the first one that is not empty, is UTF-8.
fn is_unicode(locale: &[Option<OsString>]) -> bool {
    let set = locale.iter().flatten().find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_string_lossy().to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_have_it_and_people_who_want_it() {
        let xterm = Some(OsStr::new("xterm"));
        let set = Some(OsStr::new("1"));
        let empty = Some(OsStr::new(""));
        assert!(colored(Color::Auto, true, None, xterm));
        assert!(colored(Color::Auto, true, empty, xterm));
        assert!(!colored(Color::Auto, true, set, xterm));
        assert!(!colored(Color::Auto, false, None, xterm));
        assert!(!colored(Color::Auto, true, None, Some(OsStr::new("dumb"))));
        assert!(!colored(Color::Auto, true, None, None));
        assert!(colored(Color::Always, false, set, None));
        assert!(!colored(Color::Never, true, None, xterm));
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let locale = |values: [&str; 3]| is_unicode(&values.map(|v| Some(OsString::from(v))));
        assert!(locale(["", "", "de_DE.UTF-8"]));
        assert!(locale(["", "C.utf8", "C"]));
        assert!(!locale(["C", "C.UTF-8", "C.UTF-8"]));
        assert!(!is_unicode(&[None, None, None]));
    }

    #[test]
    fn a_file_has_no_width() {
        let file = tempfile::tempfile().unwrap();
        let terminal = Terminal::of(&file, Color::Auto);
        assert_eq!((terminal.width, terminal.color), (None, false));
    }
}
