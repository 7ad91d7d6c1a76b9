//! The table in Markdown that a benchmark prints.

use std::{fmt::Display, time::Duration};

/// Begins it.
pub(crate) fn begin() {
    println!("| | measured | aim |\n|---|---|---|");
}

pub(crate) fn row(name: &str, value: impl Display, aim: &str) {
    println!("| {name} | {value} | {aim} |");
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

/// Events a second.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn rate(events: u64, taken: Duration) -> String {
    format!("{:.2} million", events as f64 / taken.as_secs_f64() / 1e6)
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
