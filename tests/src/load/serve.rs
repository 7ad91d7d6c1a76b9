//! The server: answers requests and counts bytes over TCP, counts datagrams over UDP.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Context as _;
use rustix::net::sockopt;

use super::{BULK, SIZE, is_end, pin};

/// How much may wait at the socket for datagrams, in bytes: what comes while another process has the
/// processor for some milliseconds.
const WAITING: usize = 16 << 20;
/// How many bytes are taken from a connection at once.
const CHUNK: usize = 256 << 10;

/// Serves on the port, TCP and UDP, each on a processor of its own. Writes the line `ready` to stdout once both
/// listen, and then for each line on stdin how many datagrams came so far; ends with stdin.
///
/// # Errors
/// When the port or a processor cannot be had.
pub fn serve(port: u16, answering: usize, counting: usize) -> anyhow::Result<()> {
    let everywhere = (Ipv4Addr::UNSPECIFIED, port);
    let listener = TcpListener::bind(everywhere).context("cannot listen")?;
    let socket = UdpSocket::bind(everywhere).context("cannot bind")?;
    sockopt::set_socket_recv_buffer_size_force(&socket, WAITING)
        .context("cannot have the room for waiting datagrams")?;
    let datagrams = Arc::new(AtomicU64::new(0));
    thread::spawn(move || pin(answering).and_then(|()| answer(&listener)));
    thread::spawn({
        let datagrams = Arc::clone(&datagrams);
        move || pin(counting).and_then(|()| count(&socket, &datagrams))
    });
    let mut stdout = io::stdout();
    writeln!(stdout, "ready")?;
    for line in io::stdin().lock().lines() {
        line?;
        writeln!(stdout, "{}", datagrams.load(Ordering::Relaxed))?;
    }
    Ok(())
}

fn count(socket: &UdpSocket, datagrams: &AtomicU64) -> anyhow::Result<()> {
    let mut bytes = [0; SIZE];
    loop {
        socket.recv(&mut bytes).context("cannot take datagrams")?;
        datagrams.fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(listener: &TcpListener) -> anyhow::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        match converse(&mut stream) {
            Err(error) if !is_end(&error) => return Err(error).context("a connection"),
            _ => {}
        }
    }
}

/// Until the client has gone.
fn converse(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; SIZE];
    stream.read_exact(&mut bytes)?;
    if bytes[0] == BULK {
        return swallow(stream, SIZE as u64);
    }
    loop {
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
    }
}

fn swallow(stream: &mut TcpStream, mut count: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk)? {
            0 => return stream.write_all(&count.to_be_bytes()),
            taken => count += taken as u64,
        }
    }
}
