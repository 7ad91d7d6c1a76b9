//! Bytes of the ring become records, and records become events with the types of this side.
//!
//! Pure, and strict: a record of the wrong size, kind or hook is refused with the reason; nothing
//! is read beyond the bytes given. All integers are valid in any pattern, so what is accepted can
//! be wrong only in what it claims.

mod plain;

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use tracer_common::{
    address::{self, Address},
    hook,
    record::{self, Conntrack, WideEvent},
};

/// An address and a port, or an ICMP echo's id in the port's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address, IPv4-mapped for IPv4.
    pub address: Address,
    /// The port, 0 where the protocol has none.
    pub port: u16,
}

/// Word by word, which is what hashing is fast with.
impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, to: &mut H) {
        to.write_u64(self.address[0]);
        to.write_u64(self.address[1]);
        to.write_u16(self.port);
    }
}

impl Endpoint {
    /// The address as the standard library has it.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(address::to_bytes(self.address)).to_canonical()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(end: SocketAddr) -> Self {
        let address = match end.ip() {
            IpAddr::V4(ip) => address::from_ipv4(ip.octets()),
            IpAddr::V6(ip) => address::from_bytes(ip.octets()),
        };
        Self {
            address,
            port: end.port(),
        }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(end: Endpoint) -> Self {
        Self::new(end.ip(), end.port)
    }
}

/// `ip:port`, `[v6]:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Source, destination and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// The IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of the other direction.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
        }
    }
}

/// `a:p -> b:q`.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)
    }
}

/// One hook saw one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The record, as the hook wrote it.
    pub record: record::Event,
    /// The packet's second IP header.
    pub other: Option<Other>,
}

/// A second IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its tuple: of the outer packet, or of the packet that an ICMP error quotes.
    pub tuple: Tuple,
    /// The network identifier of VXLAN or Geneve.
    pub vni: u32,
}

impl Event {
    /// The tuple, of the inner packet where there is one.
    #[must_use]
    #[inline]
    pub fn tuple(&self) -> Tuple {
        let r = &self.record;
        Tuple {
            source: Endpoint {
                address: r.source,
                port: r.source_port,
            },
            destination: Endpoint {
                address: r.destination,
                port: r.destination_port,
            },
            protocol: r.protocol,
        }
    }

    /// Whether all of the flags are set.
    #[must_use]
    pub fn has(&self, flags: u16) -> bool {
        self.record.flags & flags == flags
    }

    /// The outer header of an encapsulated packet.
    #[must_use]
    pub fn outer(&self) -> Option<Other> {
        self.other.filter(|_| self.has(record::FLAG_ENCAPSULATED))
    }

    /// The packet that an ICMP error quotes.
    #[must_use]
    pub fn quoted(&self) -> Option<Tuple> {
        self.other
            .filter(|_| self.has(record::FLAG_ICMP_ERROR))
            .map(|other| other.tuple)
    }
}

/// A record of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A hook saw a packet.
    Event(Event),
    /// A connection's two tuples.
    Conntrack(Conntrack),
}

impl Record {
    /// When the kernel wrote it, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn time(&self) -> u64 {
        match self {
            Self::Event(event) => event.record.time,
            Self::Conntrack(tuples) => tuples.time,
        }
    }
}

/// What the ring gives: a record, or what goes beside records.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, and a box would cost each record an allocation"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A record.
    Record(Record),
    /// A packet's first bytes.
    Bytes(Box<record::Bytes>),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short to say what it is.
    #[error("a record of {0} bytes is too short to have a kind")]
    Short(usize),
    /// The kind is not one that this version knows.
    #[error("a record of unknown kind {0}")]
    Kind(u8),
    /// The length is not the kind's.
    #[error("a record of kind {kind} has {length} bytes instead of {expected}")]
    Length {
        /// The kind.
        kind: u8,
        /// The bytes given.
        length: usize,
        /// The bytes that the kind has.
        expected: usize,
    },
    /// The hook is not one that this version knows.
    #[error("a record of unknown hook {0}")]
    Hook(u8),
}

/// Where the kind stands in every record.
const KIND_AT: usize = 8;

/// A process's name as the kernel keeps it: up to fifteen bytes of any kind, then a NUL.
#[must_use]
pub fn process_name(comm: [u64; 2]) -> String {
    let [first, second] = comm.map(u64::to_ne_bytes);
    let bytes = [first, second].concat();
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Decodes what the ring gives.
///
/// # Errors
/// As [`decode`].
pub fn decode_message(bytes: &[u8]) -> Result<Message, DecodeError> {
    match bytes.get(KIND_AT) {
        Some(&record::KIND_BYTES) => {
            let record: record::Bytes = read(bytes, record::KIND_BYTES)?;
            if usize::from(record.hook) < hook::COUNT {
                Ok(Message::Bytes(Box::new(record)))
            } else {
                Err(DecodeError::Hook(record.hook))
            }
        }
        _ => decode(bytes).map(Message::Record),
    }
}

/// Decodes one record.
///
/// # Errors
/// [`DecodeError`]: the BPF object is not of this version, or the recording is damaged.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let kind = *bytes.get(KIND_AT).ok_or(DecodeError::Short(bytes.len()))?;
    match kind {
        record::KIND_EVENT => {
            let record: record::Event = read(bytes, kind)?;
            check(&record)?;
            Ok(Record::Event(Event {
                record,
                other: None,
            }))
        }
        record::KIND_PLAIN_EVENT => {
            let plain: record::PlainEvent = read(bytes, kind)?;
            let record = plain::event(&plain);
            check(&record)?;
            Ok(Record::Event(Event {
                record,
                other: None,
            }))
        }
        record::KIND_WIDE_EVENT => {
            let wide: WideEvent = read(bytes, kind)?;
            check(&wide.event)?;
            let tuple = Tuple {
                source: Endpoint {
                    address: wide.other_source,
                    port: wide.other_source_port,
                },
                destination: Endpoint {
                    address: wide.other_destination,
                    port: wide.other_destination_port,
                },
                protocol: wide.other_protocol,
            };
            let other = Some(Other {
                tuple,
                vni: wide.vni,
            });
            Ok(Record::Event(Event {
                record: wide.event,
                other,
            }))
        }
        record::KIND_CONNTRACK => read(bytes, kind).map(Record::Conntrack),
        _ => Err(DecodeError::Kind(kind)),
    }
}

fn check(record: &record::Event) -> Result<(), DecodeError> {
    if usize::from(record.hook) < hook::COUNT {
        Ok(())
    } else {
        Err(DecodeError::Hook(record.hook))
    }
}

/// Structures of integers only, without padding: any bytes of their size are a value.
trait Plain: Copy {}
impl Plain for record::Event {}
impl Plain for record::PlainEvent {}
impl Plain for WideEvent {}
impl Plain for Conntrack {}
impl Plain for record::Bytes {}

fn read<T: Plain>(bytes: &[u8], kind: u8) -> Result<T, DecodeError> {
    if bytes.len() != size_of::<T>() {
        return Err(DecodeError::Length {
            kind,
            length: bytes.len(),
            expected: size_of::<T>(),
        });
    }
    // SAFETY: the length is checked, the read is unaligned, and T is Plain.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = (decode(&bytes), decode_message(&bytes));
        }

        #[test]
        fn any_bytes_of_the_right_size_decode(mut bytes in proptest::collection::vec(any::<u8>(), 144), hook in 0..hook::COUNT, plain: bool) {
            bytes[KIND_AT] = record::KIND_EVENT;
            if plain {
                bytes.truncate(128);
                bytes[KIND_AT] = record::KIND_PLAIN_EVENT;
            }
            bytes[KIND_AT + 1] = u8::try_from(hook).unwrap();
            prop_assert!(decode(&bytes).is_ok());
        }
    }

    #[test]
    fn a_process_has_its_name_whatever_the_bytes() {
        let name = |text: &[u8; 16]| {
            let word = |at: usize| u64::from_ne_bytes(text[at..at + 8].try_into().unwrap());
            process_name([word(0), word(8)])
        };
        assert_eq!(name(b"curl\0\0\0\0garbage!"), "curl");
        assert_eq!(name(b"sixteen letters!"), "sixteen letters!");
        assert_eq!(
            name(b"\xff\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            "\u{fffd}\u{1b}"
        );
        assert_eq!(name(&[0; 16]), "");
    }

    #[test]
    fn a_wrong_length_is_named() {
        let mut bytes = [0; 100];
        bytes[KIND_AT] = record::KIND_EVENT;
        let error = decode(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a record of kind 1 has 100 bytes instead of 144"
        );
    }
}
