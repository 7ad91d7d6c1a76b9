//! DNS over UDP: every A question is answered with [`ANSWER`], or with the address that the name's first
//! label is (`10-96-0-81`, as of a pod in Kubernetes) and which then has no other, every AAAA question with
//! [`ANSWER6`], every other with an empty answer. A label of some names says what is wrong with them: see
//! [`NOWHERE`] and below.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;
use std::time::Duration;

/// The address every name has.
pub const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// The IPv6 address every name has.
pub const ANSWER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

/// No name has that label.
pub const NOWHERE: &str = "nowhere";
/// Names with that label are there only where it is the last, as what is not to be looked for in a
/// search path.
pub const BARE: &str = "bare";
/// Names with that label are answered with SERVFAIL.
pub const BROKEN: &str = "broken";
/// AAAA questions about names with that label are not answered.
pub const MUTE: &str = "mute";
/// Questions about names with that label are answered [`DELAY`] late.
pub const LATE: &str = "late";
/// How late that is.
pub const DELAY: Duration = Duration::from_millis(1600);

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Answers for ever.
pub fn serve(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        // An error here is an earlier answer's ICMP error: the next datagram is unaffected.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let query = &buffer[..length];
        if let Some(answer) = answer(query) {
            if labels(query).iter().any(|label| label == LATE) {
                thread::sleep(DELAY);
            }
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// The answer to a query; none to what is not a query with one question.
#[must_use]
pub fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    let (flags, questions) = (word(2)?, word(4)?);
    let is_query = flags & 0xf800 == 0;
    if !is_query || questions != 1 {
        return None;
    }
    let name_end = skip_name(query)?;
    let (kind, class) = (word(name_end)?, word(name_end + 2)?);
    let labels = labels(query);
    let has = |wanted: &str| labels.iter().any(|label| label == wanted);
    let code = match labels.last() {
        _ if has(NOWHERE) => 3,
        _ if has(BROKEN) => 2,
        Some(last) if has(BARE) && last != BARE => 3,
        _ => 0,
    };
    if kind == TYPE_AAAA && has(MUTE) {
        return None;
    }
    let own = labels.first();
    let own: Option<Ipv4Addr> = own.and_then(|label| label.replace('-', ".").parse().ok());
    let address = match (kind, class) {
        _ if code != 0 => Vec::new(),
        (TYPE_A, CLASS_IN) => own.unwrap_or(ANSWER).octets().to_vec(),
        (TYPE_AAAA, CLASS_IN) if own.is_none() => ANSWER6.octets().to_vec(),
        _ => Vec::new(),
    };
    let mut answer = Vec::with_capacity(query.len() + 28);
    answer.extend_from_slice(&query[..2]);
    // A response, authoritative, recursion as asked and available.
    answer.extend_from_slice(&(0x8480 | flags & 0x0100 | code).to_be_bytes());
    let answers = u16::from(!address.is_empty());
    for count in [1, answers, 0, 0] {
        answer.extend_from_slice(&count.to_be_bytes());
    }
    answer.extend_from_slice(&query[HEADER..name_end + 4]);
    if !address.is_empty() {
        // A pointer to the question's name; a minute to live.
        answer.extend_from_slice(&[0xc0, 0x0c]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&class.to_be_bytes());
        answer.extend_from_slice(&60u32.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(address.len()).ok()?.to_be_bytes());
        answer.extend_from_slice(&address);
    }
    Some(answer)
}

/// The question's labels, as far as they are text.
fn labels(query: &[u8]) -> Vec<String> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    while let Some(&length) = query.get(at)
        && (1..=63).contains(&length)
    {
        let end = at + 1 + usize::from(length);
        let label = query
            .get(at + 1..end)
            .and_then(|label| std::str::from_utf8(label).ok());
        labels.extend(label.map(str::to_ascii_lowercase));
        at = end;
    }
    labels
}

/// Where the question's name ends: labels up to the empty one, no pointers.
fn skip_name(query: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => return Some(at),
            1..=63 => at += length,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(b"\x03web\x07default\x00");
        query.extend_from_slice(&kind.to_be_bytes());
        query.extend_from_slice(&CLASS_IN.to_be_bytes());
        query
    }

    #[test]
    fn an_a_question_gets_the_address() {
        let answer = answer(&query(TYPE_A)).unwrap();
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert_eq!(answer[2..4], [0x85, 0x80]);
        assert_eq!(answer[6..8], [0, 1]);
        assert!(answer.ends_with(&ANSWER.octets()));
    }

    #[test]
    fn a_name_may_be_its_address_or_none() {
        let named = |name: &[u8]| {
            let mut query = vec![0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 0];
            query.extend_from_slice(name);
            query.extend_from_slice(&[0, 0, 1, 0, 1]);
            answer(&query).unwrap()
        };
        assert!(named(b"\x0a10-96-0-81\x03pod").ends_with(&[10, 96, 0, 81]));
        let none = named(b"\x07nowhere\x03pod");
        assert_eq!((none[3] & 15, none[7]), (3, 0));
        let failed = named(b"\x06broken\x03pod");
        assert_eq!((failed[3] & 15, failed[7]), (2, 0));
        assert_eq!(named(b"\x01a\x04bare\x03pod")[3] & 15, 3);
        assert_eq!(named(b"\x01a\x04bare")[3] & 15, 0);
    }

    #[test]
    fn other_questions_get_an_empty_answer() {
        let answer = answer(&query(15)).unwrap();
        assert_eq!(answer[6..8], [0, 0]);
        assert_eq!(answer.len(), query(15).len());
    }

    #[test]
    fn answers_are_not_answered() {
        let mut response = query(TYPE_A);
        response[2] |= 0x80;
        assert_eq!(answer(&response), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes);
        }

        #[test]
        fn truncated_queries_get_no_answer(length in 0usize..28) {
            prop_assert_eq!(answer(&query(TYPE_A)[..length]), None);
        }
    }
}
