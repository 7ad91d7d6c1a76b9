//! What the page can take: its width and its characters, and how names and addresses look on it.

use unicode_width::UnicodeWidthStr;

use super::line::{Line, Piece, Style, fitting, fold};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::Direction,
    output::{sanitize, terminal::Terminal},
};

/// The least indentation of a line that carries on another.
const LEAST_INDENT: usize = 4;

/// Where text is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Columns; `None` where there is no limit.
    pub(super) width: Option<usize>,
    /// The characters used.
    pub(super) glyphs: Glyphs,
    unicode: bool,
}

/// Characters that differ with what the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glyphs {
    original: &'static str,
    reply: &'static str,
    /// Before a drop.
    pub(super) dropped: &'static str,
    /// Microseconds.
    pub(super) micro: &'static str,
    /// For what was left out.
    pub(super) ellipsis: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    original: "→",
    reply: "←",
    dropped: "✗",
    micro: "µs",
    ellipsis: "…",
};

const ASCII: Glyphs = Glyphs {
    original: "->",
    reply: "<-",
    dropped: "!!",
    micro: "us",
    ellipsis: "..",
};

impl Page {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self {
            width: terminal.width,
            glyphs: if terminal.unicode { UNICODE } else { ASCII },
            unicode: terminal.unicode,
        }
    }

    pub(super) fn arrow(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Original => self.glyphs.original,
            Direction::Reply => self.glyphs.reply,
        }
    }

    /// A name from outside, without what acts on a terminal or cannot be shown on this one.
    pub(super) fn name(&self, name: &str) -> String {
        let plain = sanitize::plain(name);
        if self.unicode {
            plain.into_owned()
        } else {
            plain.replace(|character: char| !character.is_ascii(), "?")
        }
    }

    /// A name in at most that many columns: its middle is left out, for both ends of a generated
    /// name tell it from others.
    pub(super) fn short_name(&self, name: &str, columns: usize) -> String {
        let name = self.name(name);
        if name.width() <= columns {
            return name;
        }
        let room = columns.saturating_sub(self.glyphs.ellipsis.width());
        let head = &name[..fitting(&name, room.div_ceil(2))];
        let mut tail = name.as_str();
        while head.width() + tail.width() > room {
            let mut characters = tail.chars();
            characters.next();
            tail = characters.as_str();
        }
        format!("{head}{}{tail}", self.glyphs.ellipsis)
    }

    /// A name inside a sentence, in at most a quarter of the page.
    pub(super) fn party_name(&self, name: &str) -> String {
        let limit = self.width.map_or(usize::MAX, |width| (width / 4).max(12));
        self.short_name(name, limit)
    }

    /// Lays pieces behind the beginning of a line, and on further lines where there is no room.
    /// These are indented by `indent`, or by less when it gives a piece the room it needs.
    pub(super) fn lay(&self, beginning: Line, pieces: Vec<Piece>, indent: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = beginning;
        for Piece { style, text, gap } in pieces {
            let gap = if line.is_empty() { "" } else { gap };
            let needed = line.width() + gap.len() + text.width();
            let Some(width) = self.width.filter(|width| needed > *width) else {
                line.push(Style::Plain, gap);
                line.push(style, text);
                continue;
            };
            let least = LEAST_INDENT.min(indent);
            let indent = indent.min(width.saturating_sub(text.width())).max(least);
            for part in fold(&text, width.saturating_sub(indent)) {
                let mut next = Line::default();
                next.pad(indent);
                next.push(style, part);
                lines.push(std::mem::replace(&mut line, next));
            }
        }
        lines.push(line);
        lines.retain(|line| !line.is_blank());
        if let Some(width) = self.width {
            for line in &mut lines {
                line.cut(width, self.glyphs.ellipsis);
            }
        }
        lines
    }
}

/// Whether ports mean something: an ICMP echo's id stands in their place otherwise, or nothing.
fn has_ports(protocol: u8, endpoint: Endpoint) -> bool {
    !matches!(protocol, 1 | 58) && endpoint.port != 0
}

/// `10.244.1.2:37500`, without the port where there is none.
pub(super) fn endpoint(protocol: u8, endpoint: Endpoint) -> String {
    if has_ports(protocol, endpoint) {
        endpoint.to_string()
    } else {
        endpoint.ip().to_string()
    }
}

/// `10.244.1.2:37500 -> 10.96.0.81:80`.
pub(super) fn tuple(tuple: &Tuple) -> String {
    let [source, destination] =
        [tuple.source, tuple.destination].map(|end| endpoint(tuple.protocol, end));
    format!("{source} -> {destination}")
}

/// Before and after: `10.96.0.81:80 -> 10.244.1.3:8080`; an echo's id where only that changed.
pub(super) fn change(protocol: u8, from: Endpoint, to: Endpoint) -> String {
    let [mut before, mut after] = [from, to].map(|end| endpoint(protocol, end));
    if before == after {
        before = format!("{before} id {}", from.port);
        after = format!("{after} id {}", to.port);
    }
    format!("{before} -> {after}")
}
