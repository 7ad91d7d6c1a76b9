//! Rules as nft's own language has them, for people: `ip daddr 10.0.0.1 tcp dport 80 drop`.
//!
//! What nft would print, but for the order of a set's elements and what is not understood, which
//! stands there as JSON. Control characters are left as they are: sinks strip them.

mod abbreviate;
mod expression;

use std::fmt;

use expression::{Style, Styled, quoted};

use super::{
    json::Json,
    model::{
        BinaryOperator, Element, Expression, Family, Nat, NatKind, Operator, Rule, Statement,
        Verdict, name_of,
    },
};

/// The rule without its comment.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, statement) in self.statements.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            self::statement(f, statement, self.family)?;
        }
        Ok(())
    }
}

/// As `jump other`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, target) = self.parts();
        f.write_str(name)?;
        target.map_or(Ok(()), |target| write!(f, " {target}"))
    }
}

/// As in the listing of a set: `10.96.0.80 . tcp . 80 comment "..." : goto service-...`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expression::element(f, self, Style::Plain, Style::Plain)
    }
}

fn statement(f: &mut fmt::Formatter<'_>, statement: &Statement, family: Family) -> fmt::Result {
    match statement {
        Statement::Match {
            operator,
            left,
            right,
        } => matched(f, *operator, left, right),
        Statement::Verdict(verdict) => write!(f, "{verdict}"),
        Statement::VerdictMap { key, data } => {
            write!(f, "{key} vmap {}", Styled(data, Style::of(key)))
        }
        Statement::Reject { kind, code, .. } => reject(f, kind.as_deref(), code.as_ref(), family),
        Statement::Nat(nat) => self::nat(f, nat),
        Statement::Mangle { key, value } => {
            write!(f, "{key} set {}", Styled(value, Style::of(key)))
        }
        Statement::Queue(body) => queue(f, body),
        Statement::Passing { name, body } | Statement::Opaque { name, body } => {
            named(f, name, body)
        }
        Statement::Unknown(json) => write!(f, "{json}"),
    }
}

fn matched(
    f: &mut fmt::Formatter<'_>,
    operator: Operator,
    left: &Expression,
    right: &Expression,
) -> fmt::Result {
    let style = Style::of(left);
    if let (Operator::Equal | Operator::NotEqual, Expression::Binary(BinaryOperator::And, parts)) =
        (operator, left)
        && let [field, mask] = parts.as_slice()
        && style == Style::Flags
    {
        let not = if operator == Operator::NotEqual {
            "!= "
        } else {
            ""
        };
        return write!(
            f,
            "{field} {not}{} / {}",
            Styled(right, style),
            Styled(mask, style)
        );
    }
    write!(f, "{left} ")?;
    match operator {
        Operator::Equal if matches!(left, Expression::Binary(..)) => f.write_str("== ")?,
        Operator::Equal | Operator::HasBits => {}
        other => write!(f, "{} ", name_of(&Operator::NAMES, &other))?,
    }
    write!(f, "{}", Styled(right, style))
}

fn reject(
    f: &mut fmt::Formatter<'_>,
    kind: Option<&str>,
    code: Option<&Expression>,
    family: Family,
) -> fmt::Result {
    f.write_str("reject")?;
    let usual = match family {
        Family::Ip => "icmp",
        Family::Ip6 => "icmpv6",
        _ => "icmpx",
    };
    match (kind, code) {
        (None, _) => Ok(()),
        (Some(kind), None) => write!(f, " with {kind}"),
        (Some(kind), Some(Expression::Text(code)))
            if kind == usual && &**code == "port-unreachable" =>
        {
            Ok(())
        }
        (Some(kind), Some(code)) => write!(f, " with {kind} {code}"),
    }
}

fn nat(f: &mut fmt::Formatter<'_>, nat: &Nat) -> fmt::Result {
    f.write_str(nat.kind.as_str())?;
    if let Some(family) = &nat.family {
        write!(f, " {family}")?;
    }
    if nat.type_flags.as_ref().and_then(Json::as_text) == Some("prefix") {
        f.write_str(" prefix")?;
    }
    if nat.address.is_some() || nat.port.is_some() {
        f.write_str(" to ")?;
    }
    match (&nat.address, &nat.port) {
        (Some(Expression::Text(v6)), Some(_)) if v6.contains(':') => write!(f, "[{v6}]")?,
        (Some(address), _) => write!(f, "{address}")?,
        (None, _) => {}
    }
    if let Some(port) = &nat.port {
        write!(f, ":{port}")?;
    }
    match &nat.flags {
        // Said by `prefix` already.
        Some(Json::Text(flag)) if &**flag == "netmap" => Ok(()),
        Some(flags) => write!(f, " {}", names(flags)),
        None => Ok(()),
    }
}

fn queue(f: &mut fmt::Formatter<'_>, body: &Json) -> fmt::Result {
    f.write_str("queue")?;
    if let Some(flags) = body.get("flags") {
        write!(f, " flags {}", names(flags))?;
    }
    match body.get("num") {
        Some(number) => write!(f, " to {}", super::read::value(number)),
        None => Ok(()),
    }
}

/// A name, or several with commas between.
fn names(json: &Json) -> String {
    match json {
        Json::Text(name) => name.to_string(),
        Json::Array(items) => {
            let names: Vec<String> = items.iter().map(names).collect();
            names.join(",")
        }
        other => other.to_string(),
    }
}

/// Statements that are kept as JSON.
fn named(f: &mut fmt::Formatter<'_>, name: &str, body: &Json) -> fmt::Result {
    let number = |name: &str| body.get(name).and_then(Json::as_number);
    match (name, body) {
        (_, Json::Null) => f.write_str(name),
        ("counter" | "limit" | "quota", Json::Object(_)) if body.get("map").is_some() => {
            write!(f, "{name} name {}", super::read::value(body))
        }
        ("counter", Json::Object(_)) => {
            let (packets, bytes) = (number("packets"), number("bytes"));
            let (packets, bytes) = (packets.unwrap_or_default(), bytes.unwrap_or_default());
            write!(f, "counter packets {packets} bytes {bytes}")
        }
        ("counter" | "limit" | "quota", Json::Text(object)) => {
            write!(f, "{name} name {}", quoted(object))
        }
        ("ct helper" | "ct timeout" | "ct expectation", Json::Text(object)) => {
            write!(f, "{name} set {}", quoted(object))
        }
        ("limit", _) => limit(f, body),
        ("quota", _) => {
            let over = if inverted(body) { "over " } else { "" };
            let unit = body.get("val_unit").map(names);
            let (value, unit) = (number("val").unwrap_or_default(), unit.unwrap_or_default());
            write!(f, "quota {over}{value} {unit}")
        }
        ("ct count", _) => {
            let over = if inverted(body) { "over " } else { "" };
            write!(f, "ct count {over}{}", number("val").unwrap_or_default())
        }
        ("set", _) => set(f, body),
        ("log", _) => log(f, body),
        ("xt", _) => {
            let part = |name| body.get(name).and_then(Json::as_text).unwrap_or("?");
            write!(f, "xt {} {}", part("type"), quoted(part("name")))
        }
        _ => write!(f, "{name} {body}"),
    }
}

/// An element added to a set, with what it is to have.
fn set(f: &mut fmt::Formatter<'_>, body: &Json) -> fmt::Result {
    let part = |name| body.get(name).map(super::read::value);
    let operation = body.get("op").and_then(Json::as_text);
    let (Some(operation), Some(set), Some(element)) = (operation, part("set"), part("elem")) else {
        return write!(f, "set {body}");
    };
    write!(f, "{operation} {set} {{ {element}")?;
    if let Some(Json::Array(statements)) = body.get("stmt") {
        for (name, body) in statements.iter().filter_map(Json::single) {
            f.write_str(" ")?;
            named(f, name, body)?;
        }
    }
    f.write_str(" }")
}

fn inverted(body: &Json) -> bool {
    body.get("inv") == Some(&Json::Bool(true))
}

/// Packets that may come at once where no `burst` is written.
const USUAL_BURST: u64 = 5;

fn limit(f: &mut fmt::Formatter<'_>, body: &Json) -> fmt::Result {
    let number = |name: &str| body.get(name).and_then(Json::as_number).unwrap_or_default();
    let word = |name: &str| body.get(name).map(names);
    let over = if inverted(body) { "over " } else { "" };
    let unit = word("rate_unit").map(|unit| format!(" {unit}"));
    let per = word("per").unwrap_or_else(|| "second".to_owned());
    let (rate, burst) = (number("rate"), number("burst"));
    write!(
        f,
        "limit rate {over}{rate}{}/{per}",
        unit.as_deref().unwrap_or_default()
    )?;
    let usual = if unit.is_some() { 0 } else { USUAL_BURST };
    if burst == usual {
        return Ok(());
    }
    let unit = word("burst_unit").unwrap_or_else(|| "packets".to_owned());
    write!(f, " burst {burst} {unit}")
}

fn log(f: &mut fmt::Formatter<'_>, body: &Json) -> fmt::Result {
    f.write_str("log")?;
    for name in [
        "prefix",
        "group",
        "snaplen",
        "queue-threshold",
        "level",
        "flags",
    ] {
        match (name, body.get(name)) {
            (_, None) => {}
            ("prefix", Some(Json::Text(prefix))) => write!(f, " prefix {}", quoted(prefix))?,
            (_, Some(value)) => write!(f, " {name} {}", names(value))?,
        }
    }
    Ok(())
}

impl NatKind {
    /// Whether it is the destination that is translated.
    #[must_use]
    pub const fn is_destination(self) -> bool {
        matches!(self, Self::Dnat | Self::Redirect)
    }
}
