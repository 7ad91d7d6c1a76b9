//! A connection's state, as far as the packets on the wire show it.

use super::model::{Direction, State, Transport};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// ICMP and ICMPv6 "destination unreachable".
const UNREACHABLE: u8 = 3;
const UNREACHABLE_V6: u8 = 1;

/// Whether the packet opens a connection.
pub(super) fn begins(transport: &Transport) -> bool {
    matches!(transport, Transport::Tcp { flags, .. } if flags & (SYN | ACK | RST) == SYN)
}

/// The direction that a packet shows by itself.
pub(super) fn first_direction(transport: &Transport) -> Option<Direction> {
    match transport {
        Transport::Tcp { flags, .. } if flags & SYN != 0 => Some(if flags & ACK != 0 {
            Direction::Reply
        } else {
            Direction::Original
        }),
        // Echo reply.
        Transport::Icmp { kind: 0 | 129, .. } => Some(Direction::Reply),
        Transport::Icmp { kind: 8 | 128, .. } => Some(Direction::Original),
        _ => None,
    }
}

/// What a flow's packets have shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tcp {
    finished: [bool; 2],
    opened_with: Option<u32>,
    over: bool,
    refused_by_error: bool,
}

impl Tcp {
    /// Whether the connection is over, so that this SYN, which is not its own again, opens another.
    pub(super) fn is_over(&self, syn: &Transport) -> bool {
        let again =
            matches!(syn, Transport::Tcp { sequence, .. } if self.opened_with == Some(*sequence));
        self.over && !again
    }

    /// Whether an ICMP error refused the connection, so that its SYN may come again.
    pub(super) fn may_be_tried_again(&self) -> bool {
        self.refused_by_error
    }

    /// Whether the sender of that direction has sent its FIN.
    pub(super) fn has_finished(&self, direction: Direction) -> bool {
        self.finished[direction as usize]
    }

    /// The state after a packet.
    pub(super) fn next(
        &mut self,
        state: State,
        direction: Direction,
        transport: &Transport,
    ) -> State {
        match transport {
            Transport::Tcp {
                flags, sequence, ..
            } => self.after_segment(state, direction, *flags, *sequence),
            Transport::Icmp {
                kind: UNREACHABLE | UNREACHABLE_V6,
                quoted: Some(_),
                ..
            } if matches!(state, State::SynSent | State::Unreplied) => {
                self.over = true;
                self.refused_by_error = state == State::SynSent;
                State::Refused
            }
            // Another error is not an answer.
            Transport::Icmp {
                quoted: Some(_), ..
            } => state,
            _ if direction == Direction::Reply => State::Replied,
            _ => state,
        }
    }

    fn after_segment(
        &mut self,
        state: State,
        direction: Direction,
        flags: u8,
        sequence: u32,
    ) -> State {
        self.refused_by_error = false;
        if flags & RST != 0 {
            self.over = true;
            let early = matches!(state, State::SynSent | State::SynReceived);
            return match state {
                State::Closed | State::Refused => state,
                _ if early && direction == Direction::Reply => State::Refused,
                _ => State::Reset,
            };
        }
        if flags & SYN != 0 {
            if flags & ACK != 0 {
                return if state == State::Established && self.opened_with.is_some() {
                    state
                } else {
                    State::SynReceived
                };
            }
            self.opened_with = Some(sequence);
            return State::SynSent;
        }
        if flags & FIN != 0 {
            self.finished[direction as usize] = true;
        }
        match self.finished {
            [true, true] => {
                self.over = true;
                State::Closed
            }
            [false, false] if state == State::SynReceived && direction == Direction::Reply => state,
            [false, false] if state == State::SynSent => state,
            [false, false] if matches!(state, State::Refused | State::Reset) => state,
            [false, false] => State::Established,
            _ => State::Closing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(segments: &[(Direction, u8)]) -> State {
        let mut tcp = Tcp::default();
        segments
            .iter()
            .fold(State::Established, |state, (direction, flags)| {
                let transport = Transport::Tcp {
                    flags: *flags,
                    sequence: 1,
                    acknowledgement: 0,
                };
                tcp.next(state, *direction, &transport)
            })
    }

    #[test]
    fn a_connection_goes_through_its_states() {
        use Direction::{Original, Reply};
        let whole = [
            (Original, SYN),
            (Reply, SYN | ACK),
            (Original, ACK),
            (Original, FIN | ACK),
            (Reply, FIN | ACK),
            (Original, ACK),
        ];
        let states = [
            State::SynSent,
            State::SynReceived,
            State::Established,
            State::Closing,
            State::Closed,
            State::Closed,
        ];
        for (n, state) in states.into_iter().enumerate() {
            assert_eq!(run(&whole[..=n]), state, "after {} packets", n + 1);
        }
    }

    #[test]
    fn a_reset_is_a_refusal_or_a_reset() {
        use Direction::{Original, Reply};
        assert_eq!(run(&[(Original, SYN), (Reply, RST | ACK)]), State::Refused);
        assert_eq!(
            run(&[
                (Original, SYN),
                (Reply, SYN | ACK),
                (Original, ACK),
                (Reply, RST)
            ]),
            State::Reset
        );
        assert_eq!(run(&[(Reply, ACK), (Original, RST)]), State::Reset);
    }

    #[test]
    fn an_unreachable_refuses_and_other_errors_do_not_answer() {
        let icmp = |kind| {
            let quoted = crate::event::Tuple {
                source: crate::event::Endpoint {
                    address: [0, 1],
                    port: 1,
                },
                destination: crate::event::Endpoint {
                    address: [0, 2],
                    port: 2,
                },
                protocol: 17,
            };
            Transport::Icmp {
                kind,
                code: 3,
                sequence: 0,
                quoted: Some(quoted),
            }
        };
        let mut tcp = Tcp::default();
        assert_eq!(
            tcp.next(State::Unreplied, Direction::Reply, &icmp(3)),
            State::Refused
        );
        assert_eq!(
            Tcp::default().next(State::Unreplied, Direction::Reply, &icmp(11)),
            State::Unreplied
        );
    }
}
