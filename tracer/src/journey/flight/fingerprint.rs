//! What tells one packet from another wherever it is seen.

use std::hash::{Hash, Hasher};

use tracer_common::record::FLAG_FRAGMENT;

use crate::event::Event;

/// IP protocol numbers.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// TCP's flags that merging gathers: FIN, PSH, CWR. The others are the same in all that is merged.
const GATHERED: u8 = 1 | 8 | 128;

/// What of a packet neither NAT nor routing changes. UDP's first payload bytes, and a later
/// fragment's place, stand where TCP has its numbers (see `record::Event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub(super) sequence: u32,
    acknowledgement: u32,
    ip_id: u32,
    pub(super) payload: u32,
    pub(super) protocol: u8,
    tcp_flags: u8,
    ip_version: u8,
    fragment: bool,
}

/// Word by word, which is what hashing is fast with.
impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        to.write_u64(two(self.sequence, self.acknowledgement));
        to.write_u64(two(self.ip_id, self.payload));
        let rest = [
            self.protocol,
            self.tcp_flags,
            self.ip_version,
            self.fragment.into(),
        ];
        to.write_u32(u32::from_ne_bytes(rest));
    }
}

impl Fingerprint {
    /// That of an event's packet.
    #[must_use]
    #[inline]
    pub fn of(event: &Event) -> Self {
        let r = &event.record;
        Self {
            sequence: r.sequence,
            acknowledgement: r.acknowledgement,
            ip_id: r.ip_id,
            // Where it follows from the IP length, reassembly changes it; a TCP segment that is
            // merged or cut is another one.
            payload: if matches!(r.protocol, TCP | UDP) {
                r.payload
            } else {
                0
            },
            protocol: r.protocol,
            tcp_flags: r.tcp_flags,
            ip_version: r.ip_version,
            fragment: event.has(FLAG_FRAGMENT),
        }
    }

    /// That of a packet of so many bytes, of which the first are given, from its IP header on. `None` where
    /// they do not say: later fragments, IPv6 extension headers, another protocol, too few bytes.
    pub(super) fn of_bytes(bytes: &[u8], length: u32) -> Option<Self> {
        let (ip_version, protocol, ip_id, header, whole) = match bytes.first()? >> 4 {
            4 => {
                let header = usize::from(bytes[0] & 15) * 4;
                let whole = u32::from(word(bytes, 2)?);
                if word(bytes, 6)? & 0x1fff != 0 {
                    return None;
                }
                (4, *bytes.get(9)?, u32::from(word(bytes, 4)?), header, whole)
            }
            6 => {
                let behind = u32::from(word(bytes, 4)?);
                let whole = if behind == 0 { 0 } else { behind + 40 };
                (6, *bytes.get(6)?, long(bytes, 0)? & 0xf_ffff, 40, whole)
            }
            _ => return None,
        };
        let whole = if whole == 0 { length } else { whole };
        let body = whole.saturating_sub(u32::try_from(header).ok()?);
        let transport = bytes.get(header..)?;
        let mut fingerprint = Self {
            sequence: 0,
            acknowledgement: 0,
            ip_id,
            payload: 0,
            protocol,
            tcp_flags: 0,
            ip_version,
            fragment: false,
        };
        match protocol {
            TCP => {
                fingerprint.sequence = long(transport, 4)?;
                fingerprint.acknowledgement = long(transport, 8)?;
                fingerprint.tcp_flags = *transport.get(13)?;
                let own = u32::from(transport[12] >> 4) * 4;
                fingerprint.payload = body.saturating_sub(own);
            }
            UDP => {
                fingerprint.payload = u32::from(word(transport, 4)?).saturating_sub(8);
                if fingerprint.payload >= 8 {
                    fingerprint.sequence = long(transport, 8)?;
                    fingerprint.acknowledgement = long(transport, 12)?;
                }
            }
            ICMP | ICMPV6 => {
                fingerprint.sequence = u32::from(word(transport, 6)?);
                fingerprint.acknowledgement = u32::from(word(transport, 0)?);
            }
            _ => return None,
        }
        Some(fingerprint)
    }

    /// Whether `larger` is what this becomes when others are merged into it (GRO): the header is
    /// the first one's, but for the length and the flags that are gathered.
    pub(super) fn grows_to(&self, larger: &Self) -> bool {
        let joins = matches!(self.protocol, TCP | UDP) && !self.fragment;
        let gathered = |flags: u8| flags & !GATHERED;
        joins
            && larger.payload > self.payload
            && self.payload > 0
            && gathered(self.tcp_flags) == gathered(larger.tcp_flags)
            && *self
                == Self {
                    payload: self.payload,
                    tcp_flags: self.tcp_flags,
                    ..*larger
                }
    }

    /// Whether `segment` may be a piece of this: a part of its payload.
    pub(super) fn holds(&self, segment: &Self) -> bool {
        let cut = matches!(self.protocol, TCP | UDP) && self.protocol == segment.protocol;
        let place = segment.sequence.wrapping_sub(self.sequence);
        let inside = |place: u32| {
            place
                .checked_add(segment.payload)
                .is_some_and(|end| end <= self.payload)
        };
        cut && self.ip_version == segment.ip_version
            && !self.fragment
            && segment.payload > 0
            && segment.payload < self.payload
            && (self.protocol == UDP
                || inside(place) && self.acknowledgement == segment.acknowledgement)
    }

    /// Whether it is a later fragment.
    pub(super) fn is_fragment(&self) -> bool {
        self.fragment
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_be_bytes)
}
