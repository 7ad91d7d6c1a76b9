//! What is kept of a flow's packets until its diagnosis.
//!
//! A diagnosis is made when a flow is shown, which may be long after its packets were. So of each
//! flow the few packets are kept that can tell what is wrong: those that were dropped, the errors
//! about it, the questions that nobody has answered. Of a healthy flow that is nothing.
//!
//! Limits: of drops and errors the first of each kind, few kinds; the others are counted. Where the
//! packets of all flows together are too many, those of a flow are let go, which is remembered: what is
//! not there then says nothing.

mod resent;

pub use resent::Resent;
use resent::Sent;

use crate::journey::model::{Direction, NetnsId, Packet, Stage, State, Transport, Verdict};

/// Kinds of drops, and of errors, that are kept of a flow.
const KINDS: usize = 4;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What a flow's packets have shown.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// While there is no answer: the first packet of the client's and the last one.
    asked: Option<(Box<Packet>, Option<Box<Packet>>)>,
    /// The last answer, while none is known to have come.
    answer: Option<Box<Packet>>,
    /// Packets that were dropped.
    losses: Vec<Loss>,
    /// ICMP errors about its packets.
    errors: Vec<Packet>,
    /// The first reset by the server before the connection was open.
    reset: Option<Box<Packet>>,
    /// SYNs of the client's.
    syns: u32,
    /// When the first answer was sent, or seen first.
    answered_at: Option<u64>,
    /// An answer came to the client, or left for it.
    answer_came: bool,
    /// A socket of the client's took an answer.
    answer_taken: bool,
    /// The last packets of a direction, where they were lost one after the other.
    rows: [Option<Row>; 2],
    /// What TCP sends again.
    sent: Sent,
    /// Packets of it had to make room.
    let_go: bool,
}

/// Packets that carry something and were dropped one after the other, with none between that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// How many.
    pub count: u32,
    /// When the first of them was sent, nanoseconds of `CLOCK_MONOTONIC`.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// Packets that were dropped alike.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The first of them.
    pub sample: Packet,
    /// How many.
    pub count: u64,
}

/// What makes drops alike: the way, the place and the reason.
type Kind = (Direction, NetnsId, Stage, u32);

fn kind(packet: &Packet) -> Option<Kind> {
    let dropped = packet.dropped?;
    Some((
        packet.direction,
        dropped.netns,
        dropped.stage,
        dropped.reason,
    ))
}

impl Evidence {
    /// Takes note of a packet that is over; `state` is its flow's.
    pub fn packet(&mut self, packet: &Packet, state: State) {
        if let Transport::Icmp {
            quoted: Some(_), ..
        } = packet.transport
        {
            return self.error(packet);
        }
        self.outcome(packet);
        self.sent.packet(packet);
        match packet.direction {
            Direction::Original => self.question(packet, state),
            Direction::Reply => self.reply(packet, state),
        }
        if !is_waiting(state) && self.syns < 2 {
            self.asked = None;
        }
    }

    /// How many bytes of memory the packets take that are kept.
    #[must_use]
    pub fn room(&self) -> usize {
        let asked = self.asked.iter().map(|(first, last)| {
            let last = last.as_ref().map_or(0, |last| last.room());
            first.room() + last
        });
        let single = [&self.answer, &self.reset].into_iter().flatten();
        let losses: usize = self.losses.iter().map(|loss| loss.sample.room()).sum();
        let errors: usize = self.errors.iter().map(Packet::room).sum();
        // The lists may be half empty.
        asked.sum::<usize>()
            + single.map(|packet| packet.room()).sum::<usize>()
            + 2 * (losses + errors)
            + self.sent.room()
    }

    /// Lets the packets go that are kept. What they showed is not known any more.
    pub fn let_go(&mut self) {
        self.asked = None;
        self.answer = None;
        self.reset = None;
        self.losses = Vec::new();
        self.errors = Vec::new();
        self.sent.let_go();
        self.let_go = true;
    }

    /// Whether packets were let go, so that what is missing may have been there.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.let_go
    }

    fn error(&mut self, packet: &Packet) {
        let from = |packet: &Packet| packet.hops.first().map(|hop| (hop.netns, hop.tuple.source));
        let known = |other: &Packet| {
            other.direction == packet.direction
                && other.transport == packet.transport
                && from(other) == from(packet)
        };
        if self.errors.len() < KINDS && !self.errors.iter().any(known) {
            self.errors.push(packet.clone());
        }
    }

    fn outcome(&mut self, packet: &Packet) {
        let row = &mut self.rows[packet.direction as usize];
        let Some(kind_of) = kind(packet) else {
            if packet.payload > 0 {
                *row = None;
            }
            return;
        };
        let sent = packet.hops.first().map_or(0, |hop| hop.time);
        if packet.payload > 0 {
            let before = row.map_or((0, sent), |row| (row.count, row.first));
            *row = Some(Row {
                count: before.0 + 1,
                first: before.1.min(sent),
                last: sent,
            });
        }
        let mut losses = self.losses.iter_mut();
        if let Some(loss) = losses.find(|loss| kind(&loss.sample) == Some(kind_of)) {
            loss.count += 1;
        } else if self.losses.len() < KINDS {
            let sample = packet.clone();
            self.losses.push(Loss { sample, count: 1 });
        }
    }

    fn question(&mut self, packet: &Packet, state: State) {
        let is_syn =
            matches!(packet.transport, Transport::Tcp { flags, .. } if flags & (SYN | ACK) == SYN);
        self.syns += u32::from(is_syn);
        // The end of a SYN that was not seen to arrive is known later than that of the next one.
        let lost = is_syn && self.syns > 1 && packet.verdict != Verdict::Delivered;
        if is_waiting(state) || lost {
            match &mut self.asked {
                None => self.asked = Some((Box::new(packet.clone()), None)),
                Some((_, last)) => *last = Some(Box::new(packet.clone())),
            }
        }
    }

    fn reply(&mut self, packet: &Packet, state: State) {
        let began = packet.hops.first().map(|hop| hop.time);
        if self.answered_at.is_none_or(|known| began < Some(known)) {
            self.answered_at = began;
        }
        let resets = matches!(packet.transport, Transport::Tcp { flags, .. } if flags & RST != 0);
        if resets && state == State::Refused && self.reset.is_none() {
            self.reset = Some(Box::new(packet.clone()));
        }
        if matches!(packet.verdict, Verdict::Delivered | Verdict::Left) {
            self.answer_came = true;
        }
        let waits = matches!(state, State::SynReceived | State::Reset | State::Replied);
        self.answer_taken |= packet.verdict == Verdict::Delivered;
        self.answer = (waits && !self.answer_taken).then(|| Box::new(packet.clone()));
    }

    /// The client's last packet that nobody has answered.
    #[must_use]
    pub fn last_question(&self) -> Option<&Packet> {
        let (first, last) = self.asked.as_ref()?;
        Some(last.as_deref().unwrap_or(first))
    }

    /// The client's first packet, where it was asked again.
    #[must_use]
    pub fn first_question(&self) -> Option<&Packet> {
        Some(self.asked.as_ref()?.0.as_ref())
    }

    /// The last answer, where none is known to have come.
    #[must_use]
    pub fn lost_answer(&self) -> Option<&Packet> {
        self.answer.as_deref()
    }

    /// Whether an answer came to the client, or left for it.
    #[must_use]
    pub fn answer_came(&self) -> bool {
        self.answer_came
    }

    /// Packets of a direction that were dropped.
    pub fn losses(&self, direction: Direction) -> impl Iterator<Item = &Loss> {
        let losses = self.losses.iter();
        losses.filter(move |loss| loss.sample.direction == direction)
    }

    /// ICMP errors about its packets.
    #[must_use]
    pub fn errors(&self) -> &[Packet] {
        &self.errors
    }

    /// The server's reset of a connection that was not open.
    #[must_use]
    pub fn reset(&self) -> Option<&Packet> {
        self.reset.as_deref()
    }

    /// SYNs that the client sent.
    #[must_use]
    pub fn syns(&self) -> u32 {
        self.syns
    }

    /// When the first answer was sent.
    #[must_use]
    pub fn answered_at(&self) -> Option<u64> {
        self.answered_at
    }

    /// The segment of a direction that was sent several times, and not seen to arrive.
    #[must_use]
    pub fn resent(&self, direction: Direction) -> Option<&Resent> {
        self.sent.of(direction)
    }

    /// The largest IP packet with data of a direction that arrived, in bytes; of TCP.
    #[must_use]
    pub fn largest(&self, direction: Direction) -> u32 {
        self.sent.largest(direction)
    }

    /// The last packets of a direction that carry something, where they were all dropped.
    #[must_use]
    pub fn lost_in_a_row(&self, direction: Direction) -> Option<Row> {
        self.rows[direction as usize]
    }
}

/// Whether the client has no answer yet that it can use.
fn is_waiting(state: State) -> bool {
    matches!(state, State::SynSent | State::Unreplied | State::Refused)
}
