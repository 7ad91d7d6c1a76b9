//! A server that answers as a test tells it to, one request a connection.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use crate::objects::Kind;

/// What is asked for.
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) watches: bool,
    /// Which request it is, from 0.
    pub(super) number: usize,
    /// Which one of this kind of objects.
    pub(super) of_its_kind: usize,
    query: HashMap<String, String>,
}

impl Request {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// An answer.
pub(super) struct Reply {
    status: u16,
    body: Body,
}

enum Body {
    Whole(String),
    /// Parts of a stream; whether it then stays open.
    Parts(Vec<String>, bool),
    /// Less than was announced.
    Cut,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            body: Body::Whole(body.to_string()),
        }
    }

    pub(super) fn stream(parts: &[String]) -> Self {
        Self {
            status: 200,
            body: Body::Parts(parts.to_vec(), false),
        }
    }

    pub(super) fn cut() -> Self {
        Self {
            status: 200,
            body: Body::Cut,
        }
    }

    /// The stream goes on without anything more.
    pub(super) fn held(mut self) -> Self {
        if let Body::Parts(_, held) = &mut self.body {
            *held = true;
        }
        self
    }

    fn write(self, to: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
        let status = self.status;
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nConnection: close\r\n"
        );
        match self.body {
            Body::Whole(body) => write!(to, "{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            Body::Cut => write!(to, "{head}Content-Length: 1000\r\n\r\n{{\"items\": ["),
            Body::Parts(parts, held) => {
                write!(to, "{head}Transfer-Encoding: chunked\r\n\r\n")?;
                for part in parts {
                    write!(to, "{:x}\r\n{part}\r\n", part.len())?;
                }
                if held {
                    to.set_read_timeout(Some(Duration::from_millis(20)))?;
                    // Until the client goes away.
                    while !over.load(Ordering::Relaxed) && !matches!(to.read(&mut [0; 64]), Ok(0)) {
                    }
                }
                write!(to, "0\r\n\r\n")
            }
        }
    }
}

/// Answers until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub(super) fn at(
        listener: TcpListener,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let counted = Arc::new(Mutex::new((0, HashMap::new())));
        let answer = Arc::new(answer);
        let thread = thread::spawn({
            let over = Arc::clone(&over);
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (over, counted, answer) =
                        (Arc::clone(&over), Arc::clone(&counted), Arc::clone(&answer));
                    thread::spawn(move || {
                        let mut stream = stream.unwrap();
                        let Some(target) = target(&stream) else {
                            return;
                        };
                        let request = request(&target, &mut counted.lock().unwrap());
                        // The client may have gone away.
                        let _ = answer(&request).write(&mut stream, &over);
                    });
                }
            }
        });
        Self {
            address,
            over,
            thread: Some(thread),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a request asks for; its headers are of no interest.
fn target(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let target = first.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    Some(target.to_owned())
}

fn request(target: &str, (all, kinds): &mut (usize, HashMap<Kind, usize>)) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kind = match path {
        "/api/v1/services" => Kind::Services,
        "/apis/discovery.k8s.io/v1/endpointslices" => Kind::EndpointSlices,
        "/api/v1/pods" => Kind::Pods,
        other => panic!("{other}"),
    };
    let query: HashMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let of_its_kind = kinds.entry(kind).or_default();
    let request = Request {
        kind,
        watches: query.get("watch").is_some_and(|watch| watch == "true"),
        number: *all,
        of_its_kind: *of_its_kind,
        query,
    };
    *all += 1;
    *of_its_kind += 1;
    request
}
