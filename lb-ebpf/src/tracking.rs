//! A connection's state, as the packets that pass tell it.
//!
//! The balancer is in the middle: it sees what either end sends, not what arrives. So a state here
//! says what was *sent*, and a connection is closed once both ends said so (RFC 9293, 3.6).

use lb_common::connection::state;

use crate::parse::Flags;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Forward,
    /// From the backend to the client.
    Reverse,
}

/// The bits that a packet adds to its connection's state; none for all but a few packets of a
/// connection.
#[inline(always)]
#[must_use]
pub const fn advance(now: u32, direction: Direction, tcp: bool, flags: Flags) -> u32 {
    if flags.rst {
        return state::CLOSED & !now;
    }
    let mut bits = match direction {
        Direction::Forward => {
            // The client's first packet after the answer shows that it got the answer: a spoofed
            // source would not have.
            let answered = now & state::ANSWERED != 0 && !flags.syn;
            let fin = if flags.fin { state::CLIENT_FIN } else { 0 };
            fin | if answered { state::ESTABLISHED } else { 0 }
        }
        Direction::Reverse => {
            let answer = !tcp || (flags.syn && flags.ack);
            let first = if now & state::CLIENT_FIN == 0 { state::BACKEND_FIRST } else { 0 };
            let fin = if flags.fin { state::BACKEND_FIN | first } else { 0 };
            fin | if answer { state::ANSWERED } else { 0 }
        }
    };
    if (now | bits) & state::BOTH_FINS == state::BOTH_FINS {
        bits |= state::CLOSED;
    }
    bits & !now
}

/// Whether a packet of this flow opens a new connection in the place of one in state `now`: a
/// client that reuses its port once both ends are done.
#[inline(always)]
#[must_use]
pub const fn reopens(now: u32, flags: Flags) -> bool {
    flags.syn && !flags.ack && now & state::CLOSED != 0
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    const SYN: Flags = Flags { syn: true, ack: false, fin: false, rst: false };
    const SYN_ACK: Flags = Flags { syn: true, ack: true, fin: false, rst: false };
    const ACK: Flags = Flags { syn: false, ack: true, fin: false, rst: false };
    const FIN: Flags = Flags { syn: false, ack: true, fin: true, rst: false };
    const RST: Flags = Flags { syn: false, ack: false, fin: false, rst: true };

    fn after(packets: &[(Direction, Flags)]) -> u32 {
        packets.iter().fold(0, |now, (way, flags)| now | advance(now, *way, true, *flags))
    }

    #[test]
    fn a_handshake_establishes_and_two_fins_close() {
        assert_eq!(after(&[(Forward, SYN)]), 0);
        let answered = after(&[(Forward, SYN), (Reverse, SYN_ACK)]);
        assert_eq!(answered, state::ANSWERED);
        let open = after(&[(Forward, SYN), (Reverse, SYN_ACK), (Forward, ACK)]);
        assert_eq!(open, state::ANSWERED | state::ESTABLISHED);
        let half = open | advance(open, Reverse, true, FIN);
        assert_eq!(half & (state::CLOSED | state::BACKEND_FIN), state::BACKEND_FIN);
        assert_ne!(half & state::BACKEND_FIRST, 0);
        let client_first = after(&[(Forward, FIN), (Reverse, FIN)]);
        assert_eq!(client_first & state::BACKEND_FIRST, 0);
        let closed = half | advance(half, Forward, true, FIN);
        assert_ne!(closed & state::CLOSED, 0);
        assert!(reopens(closed, SYN) && !reopens(closed, SYN_ACK) && !reopens(half, SYN));
    }

    #[test]
    fn an_ack_without_an_answer_establishes_nothing() {
        assert_eq!(after(&[(Forward, SYN), (Forward, ACK)]), 0);
        assert_eq!(after(&[(Forward, SYN), (Reverse, SYN_ACK), (Forward, SYN)]), state::ANSWERED);
    }

    #[test]
    fn a_reset_closes_once() {
        let open = state::ANSWERED | state::ESTABLISHED;
        assert_eq!(advance(open, Reverse, true, RST), state::CLOSED);
        assert_eq!(advance(open | state::CLOSED, Forward, true, RST), 0);
    }

    #[test]
    fn udp_is_answered_by_any_packet() {
        let none = Flags::default();
        assert_eq!(advance(0, Forward, false, none), 0);
        assert_eq!(advance(0, Reverse, false, none), state::ANSWERED);
        assert_eq!(advance(state::ANSWERED, Forward, false, none), state::ESTABLISHED);
    }
}
