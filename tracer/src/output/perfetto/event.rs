//! One event of the Trace Event Format, as it is written.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use super::tracks::Where;
use crate::output::sanitize;

/// Nanoseconds since the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) u64);

/// Written in microseconds, without going through a double.
impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        let raw = RawValue::from_string(text).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// An event.
#[derive(Serialize)]
pub(super) struct Event<'a> {
    /// What kind: `X` a slice, `s` and `f` an arrow's ends, `M` a name.
    ph: &'static str,
    pid: u32,
    tid: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// An arrow's head belongs to the slice around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    args: Map<String, Value>,
}

impl<'a> Event<'a> {
    fn new(ph: &'static str, at: Where, name: &'a str) -> Self {
        Self {
            ph,
            pid: at.process,
            tid: at.thread,
            name,
            cat: None,
            ts: None,
            dur: None,
            id: None,
            bp: None,
            args: Map::new(),
        }
    }

    fn metadata(kind: &'static str, at: Where, argument: &str, value: Value) -> Self {
        let mut event = Event::new("M", at, kind);
        event.args.insert(argument.to_owned(), value);
        event
    }

    /// What a process is called.
    pub(super) fn process_name(process: u32, name: &str) -> Self {
        let at = Where { process, thread: 0 };
        Self::metadata("process_name", at, "name", name.into())
    }

    /// What a thread is called.
    pub(super) fn thread_name(at: Where, name: &str) -> Self {
        Self::metadata("thread_name", at, "name", name.into())
    }

    /// Where a thread stands among those of its process.
    pub(super) fn thread_order(at: Where, order: u64) -> Self {
        Self::metadata("thread_sort_index", at, "sort_index", order.into())
    }

    /// Something that lasts from one time to the other.
    pub(super) fn slice(
        at: Where,
        name: &'a str,
        category: &'static str,
        (begin, end): (Time, Time),
        args: Map<String, Value>,
    ) -> Self {
        Self {
            cat: Some(category),
            ts: Some(begin),
            dur: Some(Time(end.0.saturating_sub(begin.0))),
            args,
            ..Self::new("X", at, name)
        }
    }

    /// Where an arrow begins.
    pub(super) fn arrow_tail(at: Where, id: u64, time: Time) -> Self {
        Self::arrow("s", at, id, time)
    }

    /// Where an arrow ends.
    pub(super) fn arrow_head(at: Where, id: u64, time: Time) -> Self {
        Self {
            bp: Some("e"),
            ..Self::arrow("f", at, id, time)
        }
    }

    fn arrow(ph: &'static str, at: Where, id: u64, time: Time) -> Self {
        Self {
            cat: Some("way"),
            ts: Some(time),
            id: Some(id),
            ..Self::new(ph, at, "way")
        }
    }

    /// Its JSON.
    pub(super) fn to_json(&self) -> String {
        // Strings, numbers and maps of them always can be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        sanitize::json(&json).into_owned()
    }
}
