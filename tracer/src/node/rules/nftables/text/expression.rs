//! Expressions and elements in nft's language.

use std::fmt;

use super::super::{
    json::Json,
    model::{BinaryOperator, Element, Elements, Expression, name_of},
};

/// How values are written, which depends on what they are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style<'a> {
    /// As they are.
    Plain,
    /// Numbers as `0x00004000`.
    Mark,
    /// Text in quotes.
    Quoted,
    /// Numbers as `1h30m`.
    Time,
    /// TCP's flags.
    Flags,
    /// Each part of a concatenation as its part of this one.
    Parts(&'a [Expression]),
}

impl<'a> Style<'a> {
    /// That of what an expression is compared with.
    pub(super) fn of(expression: &'a Expression) -> Self {
        match expression {
            Expression::Meta(key) => match &**key {
                "mark" => Self::Mark,
                "iif" | "oif" | "iifname" | "oifname" | "iifgroup" | "oifgroup" | "ibrname"
                | "obrname" | "day" | "hour" | "time" => Self::Quoted,
                _ => Self::Plain,
            },
            Expression::Ct { key, .. } => match &**key {
                "mark" => Self::Mark,
                "helper" => Self::Quoted,
                "expiration" => Self::Time,
                _ => Self::Plain,
            },
            Expression::Fib { result, .. } if &**result != "type" => Self::Quoted,
            Expression::Payload { protocol, field }
                if &**protocol == "tcp" && &**field == "flags" =>
            {
                Self::Flags
            }
            Expression::Concat(parts) => Self::Parts(parts),
            Expression::Binary(_, operands) => operands.first().map_or(Self::Plain, Self::of),
            _ => Self::Plain,
        }
    }

    fn part(self, index: usize) -> Self {
        match self {
            Self::Parts(parts) => parts.get(index).map_or(Self::Plain, Self::of),
            other => other,
        }
    }
}

/// In quotes.
pub(super) fn quoted(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| write!(f, "\"{text}\""))
}

/// An expression and how its values are written.
pub(super) struct Styled<'a>(pub(super) &'a Expression, pub(super) Style<'a>);

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Styled(self, Style::Plain).fmt(f)
    }
}

impl fmt::Display for Styled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(expression, style) = self;
        match expression {
            Expression::Number(number) => match style {
                Style::Mark => write!(f, "{number:#010x}"),
                Style::Time => write!(f, "{}", duration(*number)),
                _ => write!(f, "{number}"),
            },
            Expression::Text(text) => match style {
                Style::Quoted if text.parse::<u64>().is_err() => write!(f, "{}", quoted(text)),
                _ => f.write_str(text),
            },
            Expression::Bool(true) => f.write_str("exists"),
            Expression::Bool(false) => f.write_str("missing"),
            Expression::Reference(name) => write!(f, "@{name}"),
            Expression::List(items) => joined(f, items, ",", |_| style),
            Expression::Concat(items) => joined(f, items, " . ", |index| style.part(index)),
            Expression::Set(set) => elements(f, set, style, Style::Plain),
            Expression::Map(map) => {
                let (key, data) = &**map;
                write!(f, "{key} map ")?;
                match data {
                    Expression::Set(set) => elements(f, set, Style::of(key), style),
                    data => write!(f, "{data}"),
                }
            }
            Expression::Prefix(address, length) => write!(f, "{address}/{length}"),
            Expression::Range(ends) => {
                write!(f, "{}-{}", Styled(&ends.0, style), Styled(&ends.1, style))
            }
            Expression::Binary(operator, operands) => {
                let name = name_of(&BinaryOperator::NAMES, operator);
                let inner = match operands.first() {
                    Some(first) if style == Style::Plain => Style::of(first),
                    _ => style,
                };
                joined(f, operands, &format!(" {name} "), |_| inner)
            }
            Expression::Verdict(verdict) => write!(f, "{verdict}"),
            Expression::Unknown(json) => unknown(f, json),
            of_packet => self::of_packet(f, of_packet),
        }
    }
}

fn joined<'a>(
    f: &mut fmt::Formatter<'_>,
    items: &'a [Expression],
    between: &str,
    style: impl Fn(usize) -> Style<'a>,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        write!(f, "{}", Styled(item, style(index)))?;
    }
    Ok(())
}

fn of_packet(f: &mut fmt::Formatter<'_>, expression: &Expression) -> fmt::Result {
    match expression {
        Expression::Payload { protocol, field } => write!(f, "{protocol} {field}"),
        Expression::Meta(key) => match &**key {
            "iif" | "oif" | "iifname" | "oifname" | "iifgroup" | "oifgroup" => f.write_str(key),
            key => write!(f, "meta {key}"),
        },
        Expression::Ct {
            key,
            direction,
            family,
        } => {
            f.write_str("ct ")?;
            for word in [direction, family].into_iter().flatten() {
                write!(f, "{word} ")?;
            }
            f.write_str(key)
        }
        Expression::Fib { result, flags } => {
            f.write_str("fib ")?;
            match flags {
                Some(Json::Array(flags)) => {
                    for (index, flag) in flags.iter().filter_map(Json::as_text).enumerate() {
                        write!(f, "{}{flag}", if index > 0 { " . " } else { "" })?;
                    }
                }
                Some(Json::Text(flag)) => f.write_str(flag)?,
                _ => {}
            }
            write!(f, " {result}")
        }
        Expression::Numgen {
            mode,
            modulus,
            offset,
        } => {
            write!(f, "numgen {mode} mod {modulus}")?;
            match offset {
                None | Some(0) => Ok(()),
                Some(offset) => write!(f, " offset {offset}"),
            }
        }
        _ => Ok(()),
    }
}

/// Expressions that are kept as JSON: some can be written all the same.
fn unknown(f: &mut fmt::Formatter<'_>, json: &Json) -> fmt::Result {
    let value = super::super::read::value;
    match json.single() {
        Some(("elem", body)) => match (body.get("val"), body.get("timeout")) {
            (Some(key), Some(Json::Number(timeout))) => {
                write!(f, "{} timeout {}", value(key), duration(*timeout))
            }
            (Some(key), None) => write!(f, "{}", value(key)),
            _ => write!(f, "{json}"),
        },
        Some((name @ ("tcp option" | "ip option" | "exthdr"), body)) => {
            let part = |name| body.get(name).and_then(Json::as_text);
            let field = part("field");
            match (name, part("name")) {
                ("exthdr", Some(header)) if field.is_some() => f.write_str(header)?,
                (name, Some(option)) => write!(f, "{name} {option}")?,
                (_, None) => return write!(f, "{json}"),
            }
            field.map_or(Ok(()), |field| write!(f, " {field}"))
        }
        _ => write!(f, "{json}"),
    }
}

/// Seconds as nft writes them: `1h30m`.
fn duration(seconds: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let parts = [
            (seconds / 86400, 'd'),
            (seconds / 3600 % 24, 'h'),
            (seconds / 60 % 60, 'm'),
            (seconds % 60, 's'),
        ];
        for (count, unit) in parts.iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        if seconds == 0 {
            f.write_str("0s")
        } else {
            Ok(())
        }
    })
}

fn elements<'a>(
    f: &mut fmt::Formatter<'_>,
    set: &'a Elements,
    key: Style<'a>,
    data: Style<'a>,
) -> fmt::Result {
    f.write_str("{ ")?;
    for (index, element) in set.list.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        self::element(f, element, key, data)?;
    }
    f.write_str(" }")
}

/// An element: its key, what is said of it, and what it maps to.
pub(super) fn element<'a>(
    f: &mut fmt::Formatter<'_>,
    element: &'a Element,
    key: Style<'a>,
    data: Style<'a>,
) -> fmt::Result {
    match &element.key {
        // TCP's flags within a set.
        Expression::Binary(..) if key == Style::Flags => {
            write!(f, "{}", Styled(&element.key, Style::Plain))?;
        }
        value => write!(f, "{}", Styled(value, key))?,
    }
    let seconds = |name| element.attribute(name).and_then(Json::as_number);
    for name in ["timeout", "expires"] {
        if let Some(seconds) = seconds(name) {
            write!(f, " {name} {}", duration(seconds))?;
        }
    }
    if let Some(comment) = element.comment() {
        write!(f, " comment {}", quoted(comment))?;
    }
    match &element.data {
        Some(to) => write!(f, " : {}", Styled(to, data)),
        None => Ok(()),
    }
}
