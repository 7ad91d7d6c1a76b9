//! Two network namespaces and a wire, and traffic on it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    thread,
};

use tracer_common::{
    address,
    filter::{self, Program},
};

use crate::node::{
    netns,
    testing::{Named, run},
};

impl Named {
    /// Runs a command line in it; false when it fails or is absent.
    pub(super) fn run(&self, line: &str) -> bool {
        run(&format!("ip netns exec {} {line}", self.name))
    }
}

/// Two namespaces and a wire between them.
pub(super) struct Pair {
    pub(super) client: Named,
    pub(super) server: Named,
    pub(super) addresses: [Ipv4Addr; 2],
}

impl Pair {
    /// `number` keeps the tests of one process apart.
    pub(super) fn new(number: u8) -> Self {
        let client = Named::new(&format!("c{number}"));
        let server = Named::new(&format!("s{number}"));
        // Of 100.64.0.0/10, by process and test: other tests' packets are not these.
        let first = u32::from(Ipv4Addr::new(100, 64, 0, 0))
            | (std::process::id() & 0xffff) << 5
            | u32::from(number & 0xf) << 1;
        let [a, b] = [first, first + 1].map(Ipv4Addr::from);
        let (to, from) = (&client.name, &server.name);
        assert!(run(&format!(
            "ip link add e0 netns {to} type veth peer name e0 netns {from}"
        )));
        for (netns, own) in [(&client, a), (&server, b)] {
            netns.ip("link set lo up");
            netns.ip("link set e0 up");
            netns.ip(&format!("address add {own}/31 dev e0"));
        }
        Self {
            client,
            server,
            addresses: [a, b],
        }
    }

    fn path(netns: &Named) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}", netns.name))
    }

    /// A request and an answer over TCP.
    pub(super) fn talk(&self) {
        let server = (self.addresses[1], 8080);
        let listener = netns::in_netns_at(&Self::path(&self.server), || {
            TcpListener::bind(server).unwrap()
        })
        .unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"pong").unwrap();
        });
        netns::in_netns_at(&Self::path(&self.client), || {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.write_all(b"ping").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"pong");
        })
        .unwrap();
        serving.join().unwrap();
    }

    /// Far more datagrams than the smallest ring has room for, faster than anyone reads.
    pub(super) fn flood(&self) {
        netns::in_netns_at(&Self::path(&self.client), || {
            let socket = UdpSocket::bind((self.addresses[0], 0)).unwrap();
            socket.connect((self.addresses[1], 9)).unwrap();
            for _ in 0..2000 {
                // Refused once the server said that nobody listens.
                let _ = socket.send(b"datagram");
            }
        })
        .unwrap();
    }

    /// What the client sends and gets.
    pub(super) fn filter(&self) -> Program {
        let mut program = Program {
            count: 1,
            ..Program::default()
        };
        program.terms[0] = filter::Term {
            kind: filter::HOST_EITHER,
            value: address::from_ipv4(self.addresses[0].octets()),
            mask: [u64::MAX; 2],
            on_true: filter::ACCEPT,
            on_false: filter::REJECT,
            ..filter::Term::default()
        };
        program
    }
}
