//! Comma-separated values, for spreadsheets and databases: RFC 4180, a header line, one row a flow,
//! a packet or a hop.
//!
//! A table has rows of one kind, so that it can be filtered and summed up as it is. Which one is
//! asked for with the sink. Columns are written down once, with the name and the cell together
//! (`flows`, `packets`, `hops`); later versions may add columns at the end.
//!
//! A spreadsheet takes a cell that begins with `=` and the like for a formula, which a name from
//! outside must not become: such text gets an apostrophe in front.

mod cell;
mod flows;
mod hops;
mod packets;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use self::cell::Cell;
use super::{Sink, origin::Origin};
use crate::report::{FlowReport, PacketReport, StatsReport};

/// What has a row of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Rows {
    /// Each flow.
    #[default]
    Flows,
    /// Each packet.
    Packets,
    /// Each hop of each packet.
    Hops,
}

/// Writes a table.
#[derive(Debug)]
pub struct CsvSink<W: Write> {
    out: csv::Writer<W>,
    rows: Rows,
    origin: Origin,
    begun: bool,
}

impl<W: Write> CsvSink<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W, origin: Origin, rows: Rows) -> Self {
        Self {
            out: csv::Writer::from_writer(out),
            rows,
            origin,
            begun: false,
        }
    }

    /// The header, before anything else.
    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        match self.rows {
            Rows::Flows => header(&mut self.out, flows::COLUMNS),
            Rows::Packets => header(&mut self.out, packets::COLUMNS),
            Rows::Hops => header(&mut self.out, hops::COLUMNS),
        }
    }
}

fn header<W: Write, F>(out: &mut csv::Writer<W>, columns: &[(&str, F)]) -> io::Result<()> {
    Ok(out.write_record(columns.iter().map(|(name, _)| name))?)
}

fn row<W: Write, T>(
    out: &mut csv::Writer<W>,
    columns: &[(&str, impl Fn(&T) -> Cell)],
    subject: &T,
) -> io::Result<()> {
    let cells = columns.iter().map(|(_, cell)| cell(subject));
    Ok(out.write_record(cells.map(Cell::into_text))?)
}

impl<W: Write> Sink for CsvSink<W> {
    fn shows_packets(&self) -> bool {
        !matches!(self.rows, Rows::Flows)
    }

    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.begin()?;
        let (out, origin) = (&mut self.out, &self.origin);
        match self.rows {
            Rows::Flows => Ok(()),
            Rows::Packets => row(out, packets::COLUMNS, &packets::Row { packet, origin }),
            Rows::Hops => (1..).zip(&packet.hops).try_for_each(|(number, hop)| {
                let subject = hops::Row {
                    number,
                    hop,
                    packet,
                    origin,
                };
                row(out, hops::COLUMNS, &subject)
            }),
        }
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.begin()?;
        let (out, origin) = (&mut self.out, &self.origin);
        match self.rows {
            Rows::Flows => row(out, flows::COLUMNS, &flows::Row { flow, origin }),
            Rows::Packets | Rows::Hops => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        self.begin()?;
        self.out.flush()
    }
}
