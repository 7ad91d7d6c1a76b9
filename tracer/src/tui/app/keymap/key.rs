//! A key of the keyboard, with or without Ctrl.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A character with Ctrl.
    Ctrl(char),
    /// A key with a name.
    Named(KeyCode, &'static str),
}

impl Key {
    pub(super) fn is(self, event: KeyEvent) -> bool {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let alt = event.modifiers.contains(KeyModifiers::ALT);
        match self {
            Self::Char(char) => event.code == KeyCode::Char(char) && !ctrl && !alt,
            Self::Ctrl(char) => event.code == KeyCode::Char(char) && ctrl,
            Self::Named(code, _) => event.code == code,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Char(' ') => "space".to_owned(),
            Self::Char(char) => char.to_string(),
            Self::Ctrl(char) => format!("^{}", char.to_ascii_uppercase()),
            Self::Named(_, name) => name.to_owned(),
        }
    }
}
