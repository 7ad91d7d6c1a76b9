//! Blocking netlink requests: one question, all of its answers.
//!
//! Used for rtnetlink (links, addresses, namespace ids) and nfnetlink (does a rule set exist).
//! Messages are handed on as bytes: the callers decode the few attributes they need and skip
//! the rest, so that an attribute which a newer kernel adds or widens cannot cost a whole link.
//!
//! A socket belongs to the network namespace of the thread that opened it and keeps that
//! namespace alive: open it, ask, drop it.

use std::io;

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was dumped.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel fills dumps up to this when it is offered that much.
const BUFFER: usize = 32 << 10;
/// How often a dump is repeated when the table changed under it.
const ATTEMPTS: usize = 4;

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink(Socket);

/// One message: its type and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`
    pub kind: u16,
    /// The family's header and the attributes.
    pub body: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of `NETLINK_ROUTE`, `NETLINK_NETFILTER`, ...
    ///
    /// # Errors
    /// As `socket(2)`; the kernel lacks the protocol or forbids it.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        // The kernel answers before `send` returns, so a read that would block means that there is
        // no answer; better an error than a hang.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Everything the kernel lists for `kind`.
    ///
    /// A dump that was disturbed by a change is repeated; after a few disturbed ones the last is
    /// returned as it is.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer that is no netlink message.
    pub fn dump(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        let mut answer = Answer::default();
        for sequence in 1..=ATTEMPTS {
            self.send(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, body)?;
            answer = self.receive(sequence, true)?;
            if !answer.disturbed {
                break;
            }
        }
        Ok(answer.messages)
    }

    /// The one answer to `kind`.
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Message> {
        self.send(kind, NLM_F_REQUEST, 1, body)?;
        let mut answer = self.receive(1, false)?;
        answer.messages.pop().ok_or_else(|| invalid("no answer"))
    }

    fn send(&self, kind: u16, flags: u16, sequence: usize, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| invalid("long request"))?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&number(sequence).to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        let kernel = SocketAddr::new(0, 0);
        self.0.send_to(&message, &kernel, 0).map(drop)
    }

    fn receive(&self, sequence: usize, dump: bool) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            // `recv_from` fills the spare capacity.
            let (length, sender) = self.0.recv_from(&mut buffer, libc::MSG_TRUNC)?;
            if length > buffer.len() {
                return Err(invalid("a message longer than the kernel promises"));
            }
            let from_kernel = sender.port_number() == 0;
            if from_kernel && (answer.take(&buffer, number(sequence))? || !dump) {
                return Ok(answer);
            }
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    messages: Vec<Message>,
    disturbed: bool,
}

impl Answer {
    /// Takes the messages of one datagram; true after the last one of a dump.
    fn take(&mut self, mut rest: &[u8], sequence: u32) -> io::Result<bool> {
        while rest.len() >= HEADER {
            let word = |at: usize| u32_at(rest, at).unwrap_or_default();
            let length = word(0) as usize;
            let (kind, flags) = (u16_at(rest, 4), u16_at(rest, 6));
            let (Some(kind), Some(flags), Some(body)) = (kind, flags, rest.get(HEADER..length))
            else {
                return Err(invalid("a message with a wrong length"));
            };
            if word(8) == sequence {
                self.disturbed |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_DONE | NLMSG_ERROR => return refusal(body).map_or(Ok(true), Err),
                    NLMSG_NOOP => {}
                    _ => self.messages.push(Message {
                        kind,
                        body: body.to_vec(),
                    }),
                }
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }
}

/// The error that an `NLMSG_ERROR` or `NLMSG_DONE` carries: a negative errno, 0 for none.
fn refusal(body: &[u8]) -> Option<io::Error> {
    let code = body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    (code < 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("netlink: {what}"))
}

fn number(sequence: usize) -> u32 {
    u32::try_from(sequence).unwrap_or(u32::MAX)
}

/// The attributes in `bytes`; ends at the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// The native `u16` at a byte offset.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The native `u32` at a byte offset.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Appends an attribute to a request.
///
/// # Panics
/// Never: a value longer than an attribute can be is cut.
pub fn put_attribute(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX) - 4)];
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_dump_ends_at_done_and_skips_other_answers() {
        let mut datagram = message(16, 2, 7, b"abcde");
        datagram.extend(message(16, 2, 6, b"of another request"));
        datagram.extend(message(16, 2 | NLM_F_DUMP_INTR, 7, b"fg"));
        let mut answer = Answer::default();
        assert!(!answer.take(&datagram, 7).unwrap());
        assert!(answer.take(&message(NLMSG_DONE, 2, 7, &[0; 4]), 7).unwrap());
        let bodies: Vec<_> = answer.messages.iter().map(|m| &m.body[..]).collect();
        assert_eq!(bodies, [&b"abcde"[..], b"fg"]);
        assert!(answer.disturbed);
    }

    #[test]
    fn a_refusal_is_the_systems_error() {
        let refused = message(NLMSG_ERROR, 0, 1, &(-libc::EPERM).to_ne_bytes());
        let error = Answer::default().take(&refused, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn attributes_survive_the_round_trip() {
        let mut request = Vec::new();
        put_attribute(&mut request, 3, b"eth0\0");
        put_attribute(&mut request, 4, &1500u32.to_ne_bytes());
        let read: Vec<_> = attributes(&request)
            .map(|a| (a.kind(), a.value().to_vec()))
            .collect();
        assert_eq!(
            read,
            [(3, b"eth0\0".to_vec()), (4, 1500u32.to_ne_bytes().to_vec())]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::default().take(&bytes, 1);
            attributes(&bytes).for_each(|a| assert!(a.value().len() <= bytes.len()));
        }
    }
}
