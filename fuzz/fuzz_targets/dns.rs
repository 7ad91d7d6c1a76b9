//! Packets that may be DNS answers, from any bytes; what is read of one, written anew, reads the same.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tracer::{
    dns::{self, Answer},
    report::lookups::Lookups,
    source::PacketBytes,
};

/// Of one answer no more addresses are taken.
const ADDRESSES: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    if let Some(datagram) = dns::datagram(bytes) {
        assert!(bytes.ends_with(datagram.payload));
        check(datagram.payload);
    }
    check(bytes);
    let mut lookups = Lookups::default();
    for time in [1, 2] {
        lookups.take(&PacketBytes {
            time,
            skb: 1,
            netns: 1,
            hook: 5,
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            bytes: bytes.to_vec(),
        });
    }
});

fn check(message: &[u8]) {
    if let Some(begin) = message.first_chunk() {
        let _ = dns::header(u64::from_be_bytes(*begin));
    }
    let Some(answer) = dns::answer(message) else {
        return;
    };
    assert!(answer.addresses.len() <= ADDRESSES);
    assert!(!answer.name.is_empty() && answer.name.is_ascii());
    assert!(!answer.name.contains(|c: char| c.is_ascii_control()));
    assert!(!answer.kind_name().is_empty() && !answer.code_name().is_empty());
    assert_eq!(dns::answer(&written(&answer)), Some(answer));
}

/// A message that says the same, without pointers.
fn written(answer: &Answer) -> Vec<u8> {
    let mut message = answer.id.to_be_bytes().to_vec();
    let truncated = u16::from(answer.truncated) << 9;
    message.extend((0x8000 | truncated | u16::from(answer.code)).to_be_bytes());
    let count = u16::try_from(answer.addresses.len()).unwrap();
    for count in [1, count, 0, 0] {
        message.extend(count.to_be_bytes());
    }
    message.extend(name(&answer.name));
    message.extend(answer.kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    for address in &answer.addresses {
        let (kind, data): (u16, Vec<u8>) = match address {
            IpAddr::V4(ip) => (1, ip.octets().into()),
            IpAddr::V6(ip) => (28, ip.octets().into()),
        };
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

/// A name as it is sent: labels with their lengths.
fn name(text: &str) -> Vec<u8> {
    let mut labels = vec![Vec::new()];
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        let label = labels.last_mut().unwrap();
        match (byte, rest.peek()) {
            (b'.', _) => labels.push(Vec::new()),
            (b'\\', Some(b'0'..=b'9')) => {
                let digits = [rest.next(), rest.next(), rest.next()];
                let code = digits.into_iter().fold(0, |code, digit| {
                    code * 10 + u32::from(digit.unwrap() - b'0')
                });
                label.push(u8::try_from(code).unwrap());
            }
            (b'\\', _) => label.extend(rest.next()),
            (byte, _) => label.push(byte),
        }
    }
    let mut sent = Vec::new();
    for label in labels.into_iter().filter(|label| !label.is_empty()) {
        sent.push(u8::try_from(label.len()).unwrap());
        sent.extend(label);
    }
    sent.push(0);
    sent
}
