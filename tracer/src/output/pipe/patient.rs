//! A writer to a descriptor whose reader may take its time, but not keep the process from ending.
//!
//! A pipe that nobody reads (a pager that waits for a key, a terminal that is stopped) blocks its writer, and
//! in a blocked write no signal is noticed. So nothing is written but where there is room, and while there is
//! none it is asked whether the end is wanted.
//!
//! Limits: another writer of the same pipe can take the room between the look and the write. Then it waits as any
//! other would.

use std::{
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Where there is room in a pipe, there is room for so much (`PIPE_BUF`).
const AT_ONCE: usize = 4096;
/// How often it is asked whether the end is wanted, while nothing is taken.
const SLICE: Duration = Duration::from_millis(200);
/// How long a reader may take nothing from when the end is wanted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes where there is room. A reader that takes nothing while the end is wanted is gone
/// ([`ErrorKind::BrokenPipe`]) after two seconds.
#[derive(Debug)]
pub struct Patient<W> {
    inner: W,
    is_end_wanted: fn() -> bool,
    patience: Duration,
}

impl<W: AsFd> Patient<W> {
    /// A writer to the descriptor of `inner`, past what `inner` may have in a buffer.
    pub fn new(inner: W, is_end_wanted: fn() -> bool) -> Self {
        Self {
            inner,
            is_end_wanted,
            patience: PATIENCE,
        }
    }

    /// Waits until there is room, or an error that the write will tell.
    fn wait_for_room(&self) -> io::Result<()> {
        let mut wanted_since = None;
        let slice = Timespec::try_from(SLICE).ok();
        loop {
            let mut descriptor = [PollFd::new(&self.inner, PollFlags::OUT)];
            match poll(&mut descriptor, slice.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if (self.is_end_wanted)() {
                let since: &mut Instant = wanted_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.patience {
                    return Err(ErrorKind::BrokenPipe.into());
                }
            }
        }
    }
}

impl<W: AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for_room()?;
        let now = &bytes[..bytes.len().min(AT_ONCE)];
        Ok(rustix::io::write(&self.inner, now)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    fn patient(writer: io::PipeWriter, is_end_wanted: fn() -> bool) -> Patient<io::PipeWriter> {
        Patient {
            patience: Duration::from_millis(300),
            ..Patient::new(writer, is_end_wanted)
        }
    }

    /// More than any pipe holds.
    fn much() -> Vec<u8> {
        (0..2_000_000u32).map(|n| n.to_le_bytes()[0]).collect()
    }

    #[test]
    fn who_reads_gets_everything_however_slowly_and_whatever_is_wanted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut writer = patient(writer, || true);
        let writing = thread::spawn(move || writer.write_all(&much()));
        let mut read = Vec::new();
        let mut buffer = vec![0; 100_000];
        loop {
            thread::sleep(Duration::from_millis(5));
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                length => read.extend_from_slice(&buffer[..length]),
            }
        }
        writing.join().unwrap().unwrap();
        assert!(read == much(), "{} bytes came", read.len());
    }

    #[test]
    fn who_reads_nothing_is_gone_when_the_end_is_wanted_and_not_before() {
        static WANTED: AtomicBool = AtomicBool::new(false);
        let (_reader, writer) = io::pipe().unwrap();
        let mut writer = patient(writer, || WANTED.load(Ordering::Relaxed));
        let writing = thread::spawn(move || writer.write_all(&much()));
        // Longer than its patience: had it not waited, it would have ended.
        thread::sleep(Duration::from_millis(700));
        assert!(!writing.is_finished());
        WANTED.store(true, Ordering::Relaxed);
        let error = writing.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_goes_away_while_it_is_waited_for_is_gone() {
        let (reader, writer) = io::pipe().unwrap();
        let mut writer = patient(writer, || false);
        let writing = thread::spawn(move || writer.write_all(&much()));
        drop(reader);
        let error = writing.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
