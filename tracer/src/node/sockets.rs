//! Which process a socket is of, for those of which the kernel side does not know: sockets that were
//! there before tracing began, and what servers accept.
//!
//! Two questions, both asked of `/proc`, which changes nothing (`sock_diag` would load modules). Which
//! socket has these ends: `/proc/PID/net/tcp` and its like of any process in the network namespace
//! ([`table`]). Which process holds it: the descriptors of the processes in that namespace
//! ([`holders`]). A connection that is closed by the time it is looked for is looked up as its
//! listening socket. Where several hold a socket, the answer is the one that started the others: servers
//! listen together with their workers. Of a connection it is that only when several hold it a while later
//! too: a server that forks after `accept` holds it for a moment beside its child.
//!
//! The same tables say at which addresses a port is listened on, which is asked for where a packet
//! found no socket.
//!
//! Limits: a process that holds a socket of another network namespace than its own is not found;
//! nor is what closed before it was looked for and has no listening socket either.

mod answering;
pub mod holders;
pub mod table;
mod worker;

use std::net::SocketAddr;

use super::snapshot::Process;

pub use worker::Worker;

/// A port of which is to be found who listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortQuestion {
    /// The network namespace's inode number.
    pub netns: u32,
    /// The IP protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// A socket to find the process of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The network namespace's inode number.
    pub netns: u32,
    /// The IP protocol number.
    pub protocol: u8,
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// A socket's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// The process that holds the socket.
    pub process: Holder,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// The id of its cgroup (version 2); 0 where it is not known.
    pub cgroup: u64,
}

/// Who listens at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// What was asked.
    pub question: PortQuestion,
    /// The addresses, each with the process where that is one.
    pub sockets: Vec<(SocketAddr, Option<Holder>)>,
}
