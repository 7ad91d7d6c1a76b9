//! A writer that ends quietly when its reader goes away, as `tracer watch | head` asks for.
//!
//! [`Patient`] takes a reader for gone that takes nothing any more when the end is wanted.

mod patient;

pub use self::patient::Patient;

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Passes everything on until the reader is gone, and then takes it for written.
#[derive(Debug)]
pub struct Pipe<W> {
    inner: W,
    closed: Closed,
}

/// Whether the reader of a [`Pipe`] is gone; outlives the pipe's move into a sink.
#[derive(Clone, Debug, Default)]
pub struct Closed(Arc<AtomicBool>);

impl Closed {
    /// Nobody reads any more: whoever writes for this reader only can end.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<W: Write> Pipe<W> {
    /// A pipe to that writer.
    pub fn new(inner: W) -> Self {
        Self::noticed_by(inner, Closed::default())
    }

    /// A pipe of whose reader that will tell.
    pub fn noticed_by(inner: W, closed: Closed) -> Self {
        Self { inner, closed }
    }

    /// The state of the pipe's reader.
    #[must_use]
    pub fn closed(&self) -> Closed {
        self.closed.clone()
    }

    fn quietly<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed.0.store(true, Ordering::Relaxed);
                Ok(instead)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed.get() {
            return Ok(bytes.len());
        }
        let result = self.inner.write(bytes);
        self.quietly(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed.get() {
            return Ok(());
        }
        let result = self.inner.flush();
        self.quietly(result, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(writer);
        let closed = pipe.closed();
        pipe.write_all(b"seen").unwrap();
        assert!(!closed.get());
        drop(reader);
        pipe.write_all(b"not seen").unwrap();
        pipe.flush().unwrap();
        assert!(closed.get());
    }

    #[test]
    fn other_errors_are_errors() {
        let mut full = [0; 2];
        let mut pipe = Pipe::new(&mut full[..]);
        let error = pipe.write_all(b"abc").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
        assert!(!pipe.closed().get());
    }
}
