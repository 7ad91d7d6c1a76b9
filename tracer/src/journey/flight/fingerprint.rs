//! What tells one packet from another wherever it is seen.

use tracer_common::record::FLAG_FRAGMENT;

use crate::event::Event;

/// IP protocol numbers.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// TCP's flags that merging gathers: FIN, PSH, CWR. The others are the same in all that is merged.
const GATHERED: u8 = 1 | 8 | 128;

/// What of a packet neither NAT nor routing changes. UDP's first payload bytes, and a later
/// fragment's place, stand where TCP has its numbers (see `record::Event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::journey) struct Fingerprint {
    pub(super) sequence: u32,
    acknowledgement: u32,
    ip_id: u32,
    pub(super) payload: u32,
    pub(super) protocol: u8,
    tcp_flags: u8,
    ip_version: u8,
    fragment: bool,
}

impl Fingerprint {
    pub(in crate::journey) fn of(event: &Event) -> Self {
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
