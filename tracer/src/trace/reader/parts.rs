//! A chunk of events, part by part.
//!
//! A chunk that somebody made up can hold millions of marks of two bytes each, which are far more when they
//! are read. So no more are read at once than the live tracer takes at once, by a measure that does not depend on
//! how they are laid out in memory.

use bytes::Bytes;

use crate::{
    source::Notice,
    trace::{
        ColumnError, Entry, IndexEntry,
        events::{Decoder, Item},
    },
};

/// What entries of a part cost together, more or less, in bytes.
const PART: usize = 1 << 20;
/// What an entry costs at least, and a record.
const ENTRY: usize = 256;
/// No notice is so long, in JSON: the longest, of a packet's first bytes, have some 1,500 bytes, those of who listens
/// at a port some thousands.
const MAX_NOTICE: usize = 1 << 16;

/// A chunk that is being read.
#[derive(Debug)]
pub(super) struct Parts {
    /// Where it is.
    pub(super) entry: IndexEntry,
    decoder: Decoder,
    /// What could not be read, first.
    wrong: Option<String>,
}

impl Parts {
    /// From its content.
    ///
    /// # Errors
    /// It is not what a writer makes.
    pub(super) fn new(entry: IndexEntry, content: Bytes) -> Result<Self, ColumnError> {
        Ok(Self {
            entry,
            decoder: Decoder::new(content)?,
            wrong: None,
        })
    }

    /// What is wrong with it.
    pub(super) fn wrong(self) -> Option<String> {
        self.wrong
    }

    /// Reads a part; whether there may be more.
    pub(super) fn next(&mut self, entries: &mut Vec<Entry>) -> bool {
        let mut cost = 0;
        while cost < PART {
            let item = match self.decoder.next() {
                Ok(Some(item)) => item,
                Ok(None) => return false,
                Err(error) => {
                    self.wrong = Some(error.to_string());
                    return false;
                }
            };
            cost += match &item {
                Item::Records(records) => records.len() * ENTRY,
                Item::Notice(json) => json.len(),
                Item::Location(_, function) => function.len(),
                Item::Clock(_) => 0,
            };
            cost += ENTRY;
            match entry(item) {
                Ok(entry) => entries.push(entry),
                Err(error) => drop(self.wrong.get_or_insert(error)),
            }
        }
        true
    }
}

fn entry(item: Item) -> Result<Entry, String> {
    Ok(match item {
        Item::Records(records) => Entry::Records(records),
        Item::Clock(now) => Entry::Clock(now),
        Item::Location(address, function) => Entry::Location { address, function },
        Item::Notice(json) => Entry::Notice(notice(&json)?),
    })
}

/// A notice of its JSON.
///
/// # Errors
/// It is none.
pub(super) fn notice(json: &[u8]) -> Result<Notice, String> {
    if json.len() > MAX_NOTICE {
        return Err("a notice: it is longer than any may be".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| format!("a notice: {error}"))
}
