//! DNS answers: what was asked, and which addresses that has.
//!
//! A parser of its own, of the little that is needed (RFC 1035): one question, and the addresses among the
//! answers. Bytes are anybody's and may be cut off. A name is followed through a few pointers only,
//! which must lead back, and nothing grows beyond what is said here. Names are given as zone files have
//! them, in small letters: what is no letter, digit, `-` or `_` is escaped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port that is answered from.
pub const PORT: u16 = 53;
/// The most addresses that are taken from one answer.
const ADDRESSES: usize = 32;
/// The longest name, in bytes as sent.
const NAME: usize = 255;
/// Pointers that are followed in one name.
const POINTERS: usize = 8;

const CLASS_IN: u16 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;
const UDP: u8 = 17;

/// What a message's first eight bytes say: of a plain query with one question, or of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number that a query and its response have.
    pub id: u16,
    /// Whether it is the response.
    pub response: bool,
    /// The response was too long to be whole.
    pub truncated: bool,
    /// The response code.
    pub code: u8,
}

/// Reads a message's first eight bytes, as a number in network order.
#[must_use]
pub fn header(begin: u64) -> Option<Header> {
    let [id @ .., a, b, questions_high, questions_low, _, _] = begin.to_be_bytes();
    let flags = u16::from_be_bytes([a, b]);
    let plain = flags & 0x7800 == 0 && [questions_high, questions_low] == [0, 1];
    plain.then_some(Header {
        id: u16::from_be_bytes(id),
        response: flags & 0x8000 != 0,
        truncated: flags & 0x8200 == 0x8200,
        code: (flags & 15) as u8,
    })
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question's number.
    pub id: u16,
    /// The name that was asked for, without a dot at its end; `.` for the root.
    pub name: String,
    /// The type that was asked for.
    pub kind: u16,
    /// The response code.
    pub code: u8,
    /// It was too long to be whole: the client is to ask over TCP.
    pub truncated: bool,
    /// The addresses, in the order in which they came.
    pub addresses: Vec<IpAddr>,
}

impl Answer {
    /// The type's name: `A`, `AAAA`, `TYPE64` where it has none here.
    #[must_use]
    pub fn kind_name(&self) -> String {
        let name = match self.kind {
            A => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            AAAA => "AAAA",
            33 => "SRV",
            65 => "HTTPS",
            255 => "ANY",
            other => return format!("TYPE{other}"),
        };
        name.to_owned()
    }

    /// The response code's name: `NOERROR`, `NXDOMAIN`.
    #[must_use]
    pub fn code_name(&self) -> String {
        code_name(self.code)
    }

    /// Whether addresses were asked for.
    #[must_use]
    pub fn is_of_addresses(&self) -> bool {
        matches!(self.kind, A | AAAA)
    }
}

/// A response code's name.
#[must_use]
pub fn code_name(code: u8) -> String {
    let name = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("RCODE{other}"),
    };
    name.to_owned()
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// What is in it, as far as it is there.
    pub payload: &'a [u8],
}

/// The datagram in a packet that begins with its IP header. Of IPv6 only without extension headers; not of
/// later fragments.
#[must_use]
pub fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let (protocol, source, destination, rest): (_, IpAddr, IpAddr, _) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            if word(packet, 6)? & 0x1fff != 0 || header < 20 {
                return None;
            }
            let address = |at| Some(Ipv4Addr::from(array::<4>(packet, at)?));
            let (from, to) = (address(12)?, address(16)?);
            (
                *packet.get(9)?,
                from.into(),
                to.into(),
                packet.get(header..)?,
            )
        }
        6 => {
            let address = |at| Some(Ipv6Addr::from(array::<16>(packet, at)?));
            let (from, to) = (address(8)?, address(24)?);
            (*packet.get(6)?, from.into(), to.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    (protocol == UDP).then_some(())?;
    Some(Datagram {
        source: SocketAddr::new(source, word(rest, 0)?),
        destination: SocketAddr::new(destination, word(rest, 2)?),
        payload: rest.get(8..)?,
    })
}

/// Reads an answer to one question. Of what is cut off, what is there.
#[must_use]
pub fn answer(message: &[u8]) -> Option<Answer> {
    let flags = word(message, 2)?;
    // A response to a plain query.
    if flags & 0xf800 != 0x8000 || word(message, 4)? != 1 {
        return None;
    }
    let (name, at) = name(message, 12)?;
    let (kind, class) = (word(message, at)?, word(message, at + 2)?);
    (class == CLASS_IN).then_some(())?;
    let mut addresses = Vec::new();
    let mut at = at + 4;
    for _ in 0..word(message, 6)? {
        let Some((address, next)) = record(message, at) else {
            break;
        };
        if addresses.len() < ADDRESSES {
            addresses.extend(address);
        }
        at = next;
    }
    Some(Answer {
        id: word(message, 0)?,
        truncated: flags & 0x0200 != 0,
        name,
        kind,
        code: (flags & 15) as u8,
        addresses,
    })
}

/// The address in a record, if it is one, and where the next record begins.
fn record(message: &[u8], at: usize) -> Option<(Option<IpAddr>, usize)> {
    let at = skip_name(message, at)?;
    let (kind, class) = (word(message, at)?, word(message, at + 2)?);
    let length = usize::from(word(message, at + 8)?);
    let data = at + 10;
    let address = match (kind, class, length) {
        (A, CLASS_IN, 4) => Some(IpAddr::from(array::<4>(message, data)?)),
        (AAAA, CLASS_IN, 16) => Some(IpAddr::from(array::<16>(message, data)?)),
        _ => None,
    };
    Some((address, data + length))
}

/// Where a name ends that begins there.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The name that begins there, and where what is behind it begins.
fn name(message: &[u8], from: usize) -> Option<(String, usize)> {
    let end = skip_name(message, from)?;
    let (mut text, mut sent) = (String::new(), 1);
    let (mut at, mut pointers) = (from, 0);
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                sent += 1 + label.len();
                (sent <= NAME).then_some(())?;
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(label.iter().flat_map(|byte| escaped(*byte)));
                at += 1 + label.len();
            }
            0xc0.. => {
                let to = usize::from(word(message, at)? & 0x3fff);
                pointers += 1;
                // Back only, and not for long: every name ends.
                (to < at && pointers <= POINTERS).then_some(())?;
                at = to;
            }
            _ => return None,
        }
    }
    if text.is_empty() {
        text.push('.');
    }
    Some((text, end))
}

/// A byte of a label: `a`, `\.`, `\009`.
fn escaped(byte: u8) -> impl Iterator<Item = char> {
    let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let code = (!plain && !byte.is_ascii_graphic()).then(|| format!("\\{byte:03}"));
    let escape = (!plain && byte.is_ascii_graphic()).then_some('\\');
    let itself = (plain || byte.is_ascii_graphic()).then(|| char::from(byte.to_ascii_lowercase()));
    let code: Vec<char> = code.iter().flat_map(|code| code.chars()).collect();
    code.into_iter().chain(escape).chain(itself)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message: flags, the question `web.a`, and these answers.
    fn message(flags: u16, records: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![0, 7];
        message.extend(flags.to_be_bytes());
        for count in [1, records.len(), 0, 0] {
            message.extend(u16::try_from(count).unwrap().to_be_bytes());
        }
        message.extend(b"\x03Web\x01a\0\0\x01\0\x01");
        message.extend(records.concat());
        message
    }

    const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x60\0\x51";
    /// `web.a` is called `b.a`, which has an address.
    const ALIAS: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x10";
    const OF_ALIAS: &[u8] =
        b"\x01b\xc0\x10\0\x1c\0\x01\0\0\0\x3c\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09";

    #[test]
    fn a_name_has_its_addresses() {
        let read = answer(&message(0x8580, &[ALIAS, OF_ALIAS, ADDRESS])).unwrap();
        let expected: [IpAddr; 2] = ["fd00::9".parse().unwrap(), "10.96.0.81".parse().unwrap()];
        assert_eq!(
            (read.name.as_str(), read.addresses.as_slice()),
            ("web.a", &expected[..])
        );
        assert_eq!(
            (read.kind_name(), read.code_name()),
            ("A".to_owned(), "NOERROR".to_owned())
        );
    }

    #[test]
    fn a_header_says_whose_answer_it_is() {
        let begin = |flags| {
            let bytes = message(flags, &[]);
            header(u64::from_be_bytes(*bytes.first_chunk().unwrap()))
        };
        let question = begin(0x0100).unwrap();
        assert_eq!((question.id, question.response), (7, false));
        let answer = begin(0x8383).unwrap();
        assert_eq!(
            (answer.id, answer.response, answer.truncated, answer.code),
            (7, true, true, 3)
        );
        assert_eq!(begin(0xa800), None, "an update");
        assert_eq!(header(0), None);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(answer(&message(0x0100, &[])), None, "a question");
        assert_eq!(answer(&message(0xa800, &[])), None, "an update");
        let unknown = answer(&message(0x8183, &[])).unwrap();
        assert_eq!(
            (unknown.code_name().as_str(), unknown.addresses.len()),
            ("NXDOMAIN", 0)
        );
    }

    #[test]
    fn what_is_cut_off_gives_what_is_there() {
        let whole = message(0x8180, &[ADDRESS, ADDRESS]);
        assert_eq!(answer(&whole).unwrap().addresses.len(), 2);
        assert_eq!(
            answer(&whole[..whole.len() - 1]).unwrap().addresses.len(),
            1
        );
        assert_eq!(answer(&whole[..16]), None);
    }

    #[test]
    fn names_end_and_are_plain() {
        let mut endless = message(0x8180, &[]);
        endless[12..14].copy_from_slice(&[0xc0, 0x0c]);
        assert_eq!(answer(&endless), None, "a pointer to itself");
        let bytes = b"\x05a.\x1b[\xff\0";
        assert_eq!(name(bytes, 0), Some(("a\\.\\027\\[\\255".to_owned(), 7)));
        assert_eq!(name(b"\0", 0), Some((".".to_owned(), 1)));
    }

    #[test]
    fn a_datagram_is_found_in_its_packet() {
        let mut packet = vec![
            0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 96, 0, 10, 10, 244, 1, 2,
        ];
        packet.extend([0, 53, 0x9c, 0x40, 0, 12, 0, 0, 1, 2, 3, 4]);
        let found = datagram(&packet).unwrap();
        assert_eq!(found.source, "10.96.0.10:53".parse().unwrap());
        assert_eq!(found.destination, "10.244.1.2:40000".parse().unwrap());
        assert_eq!(found.payload, [1, 2, 3, 4]);
        packet[9] = 6;
        assert_eq!(datagram(&packet), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = datagram(&bytes);
            if let Some(read) = answer(&bytes) {
                prop_assert!(read.addresses.len() <= ADDRESSES);
                prop_assert!(read.name.len() <= 4 * NAME);
                prop_assert!(read.name.is_ascii() && !read.name.contains(|c: char| c.is_ascii_control()));
            }
        }

        #[test]
        fn any_bytes_of_an_answer_too(tail in proptest::collection::vec(any::<u8>(), 0..700), count: u8) {
            let mut bytes = message(0x8180, &[]);
            bytes[7] = count;
            bytes.extend(tail);
            prop_assert_eq!(answer(&bytes).map(|read| read.name), Some("web.a".to_owned()));
        }
    }
}
