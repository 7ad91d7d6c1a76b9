//! HTTP/1.1, as much of it as curl needs.
//!
//! `GET /` answers who serves and who asks; `GET /bytes/N` answers N bytes (at most 64 MiB), for
//! transfers that take more than one packet. `HEAD` likewise, without the body. Requests with a
//! body are refused.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// The longest request head that is read.
const HEAD_LIMIT: u64 = 16 * 1024;
/// The longest answer of `/bytes/N`.
const BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// Accepts connections for ever, each in a thread of its own.
pub fn serve(listener: &TcpListener, name: &str) {
    let name: Arc<str> = name.into();
    for stream in listener.incoming() {
        // A connection that its client gave up before it was accepted.
        let Ok(stream) = stream else { continue };
        let name = Arc::clone(&name);
        thread::spawn(move || {
            // A client that goes away is no concern of a server's.
            let _ = converse(&stream, &name);
        });
    }
}

/// Answers requests until the client closes or asks to.
fn converse(stream: &TcpStream, name: &str) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match read_request(&mut reader)? {
            Head::Request(request) => request,
            Head::Malformed => {
                let answer = Answer::new(400, "bad request\n");
                return write_answer(stream, &answer, false, true);
            }
            Head::End => return Ok(()),
        };
        let answer = answer(&request, name, peer);
        let keep_alive = request.keep_alive && answer.status != 413;
        write_answer(stream, &answer, keep_alive, request.method != "HEAD")?;
        if !keep_alive {
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    path: String,
    keep_alive: bool,
    has_body: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Head {
    Request(Request),
    Malformed,
    /// The client has closed the connection.
    End,
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut reader = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if read_line(&mut reader, &mut line)? == 0 {
        return Ok(Head::End);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(Head::Malformed);
    };
    if !version.starts_with("HTTP/1.") {
        return Ok(Head::Malformed);
    }
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive: version != "HTTP/1.0",
        has_body: false,
    };
    loop {
        line.clear();
        if read_line(&mut reader, &mut line)? == 0 {
            return Ok(Head::Malformed);
        }
        let header = line.trim_end();
        if header.is_empty() {
            return Ok(Head::Request(request));
        }
        apply(header, &mut request);
    }
}

/// A line of bytes that need not be UTF-8.
fn read_line(reader: &mut impl BufRead, line: &mut String) -> io::Result<usize> {
    let mut bytes = Vec::new();
    let count = reader.read_until(b'\n', &mut bytes)?;
    line.push_str(&String::from_utf8_lossy(&bytes));
    Ok(count)
}

fn apply(header: &str, request: &mut Request) {
    let Some((name, value)) = header.split_once(':') else {
        return;
    };
    let value = value.trim().to_ascii_lowercase();
    match name.to_ascii_lowercase().as_str() {
        "connection" if value.contains("close") => request.keep_alive = false,
        "connection" if value.contains("keep-alive") => request.keep_alive = true,
        "content-length" => request.has_body |= value != "0",
        "transfer-encoding" => request.has_body = true,
        _ => {}
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.as_bytes().to_vec(),
        }
    }
}

fn answer(request: &Request, name: &str, peer: SocketAddr) -> Answer {
    if request.has_body {
        return Answer::new(413, "this server takes no bodies\n");
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::new(405, "this server knows GET and HEAD\n");
    }
    if request.path == "/" {
        return Answer::new(200, &format!("server: {name}\nclient: {peer}\n"));
    }
    let count = request.path.strip_prefix("/bytes/");
    match count.map(str::parse::<usize>) {
        Some(Ok(count)) if count <= BYTES_LIMIT => Answer {
            status: 200,
            body: vec![b'x'; count],
        },
        _ => Answer::new(404, "this server knows / and /bytes/N\n"),
    }
}

/// Head and body in one write, so that a short answer is one packet.
fn write_answer(
    mut stream: impl Write,
    answer: &Answer,
    keep_alive: bool,
    with_body: bool,
) -> io::Result<()> {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Content Too Large",
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut message = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        answer.status,
        answer.body.len()
    )
    .into_bytes();
    if with_body {
        message.extend_from_slice(&answer.body);
    }
    stream.write_all(&message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Head {
        read_request(&mut text.as_bytes()).unwrap()
    }

    fn request(text: &str) -> Request {
        match parse(text) {
            Head::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connections_stay_open_unless_told_otherwise() {
        assert!(request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(parse(""), Head::End);
        assert_eq!(parse("hello\r\n\r\n"), Head::Malformed);
        assert_eq!(parse("GET / SPDY/3\r\n\r\n"), Head::Malformed);
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: x\r\n"), Head::Malformed);
        let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
        assert_eq!(parse(&endless), Head::Malformed);
    }

    #[test]
    fn answers_say_who_serves_and_who_asks() {
        let peer = "10.244.1.2:4242".parse().unwrap();
        let answer = answer(&request("GET / HTTP/1.1\r\n\r\n"), "b1", peer);
        assert_eq!(answer.body, b"server: b1\nclient: 10.244.1.2:4242\n");
    }

    #[test]
    fn bytes_are_counted_and_bounded() {
        let peer = "10.244.1.2:4242".parse().unwrap();
        let get = |path: &str| {
            answer(
                &request(&format!("GET {path} HTTP/1.1\r\n\r\n")),
                "b1",
                peer,
            )
        };
        assert_eq!(get("/bytes/1000").body.len(), 1000);
        assert_eq!(get("/bytes/99999999999").status, 404);
        assert_eq!(get("/bytes/x").status, 404);
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let mut out = Vec::new();
        write_answer(&mut out, &Answer::new(200, "hello"), true, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }
}
