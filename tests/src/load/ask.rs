//! Clients over TCP: requests over one connection, a connection for each request, and bytes as fast as
//! they go.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{BULK, Done, SIZE, pin};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many bytes are handed to the socket at once.
const CHUNK: usize = 128 << 10;

/// Asks over one connection, the next request when the answer is there and the pause is over.
///
/// # Errors
/// When there is no server, or it does not answer.
pub fn ask(
    processor: usize,
    server: SocketAddr,
    time: Duration,
    pause: Duration,
) -> anyhow::Result<Done> {
    pin(processor)?;
    let mut stream = open(server)?;
    exchange(&mut stream)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut before = begin;
    while before - begin < time {
        exchange(&mut stream)?;
        times.push(nanoseconds(before.elapsed()));
        before = rest(pause);
    }
    let done = Done::new(times.len() as u64, begin, &mut times);
    // Over when the server has said so too: who traces it may be ended now.
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(done)
}

/// Makes a connection for each request, the next one when the pause is over.
///
/// # Errors
/// As [`ask`].
pub fn connect(
    processor: usize,
    server: SocketAddr,
    time: Duration,
    pause: Duration,
) -> anyhow::Result<Done> {
    pin(processor)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut before = begin;
    while before - begin < time {
        let mut stream = open(server)?;
        exchange(&mut stream)?;
        // Ends with a reset: so many connections waiting for their ports would use these up.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        drop(stream);
        times.push(nanoseconds(before.elapsed()));
        before = rest(pause);
    }
    Ok(Done::new(times.len() as u64, begin, &mut times))
}

/// Sends bytes; what counts is what the server says that it took.
///
/// # Errors
/// As [`ask`].
pub fn send(processor: usize, server: SocketAddr, time: Duration) -> anyhow::Result<Done> {
    pin(processor)?;
    let mut stream = open(server)?;
    let chunk = vec![BULK; CHUNK];
    let begin = Instant::now();
    while begin.elapsed() < time {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut count = [0; 8];
    stream
        .read_exact(&mut count)
        .context("the server does not say what it took")?;
    Ok(Done::new(u64::from_be_bytes(count), begin, &mut []))
}

fn open(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(server).with_context(|| format!("cannot reach {server}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut bytes = [0; SIZE];
    stream.write_all(&bytes)?;
    stream.read_exact(&mut bytes).context("no answer")
}

/// The time after the pause.
fn rest(pause: Duration) -> Instant {
    if !pause.is_zero() {
        thread::sleep(pause);
    }
    Instant::now()
}

fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}
