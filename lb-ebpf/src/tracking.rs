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

/// Whether a client's packet asks for a connection.
#[inline(always)]
#[must_use]
pub const fn asks(flags: Flags) -> bool {
    flags.syn() && !flags.ack()
}

/// 1 for a packet of a connection whose handshake is over, as each of those is (RFC 9293, 3.5.2), else 0.
/// A number, which the verifier has not to follow both ways.
#[inline(always)]
#[must_use]
pub const fn goes_on(flags: Flags) -> u32 {
    let (syn, ack) = (flags.0 >> 1 & 1, flags.0 >> 4 & 1);
    (ack & !syn) as u32
}

/// Whether an acknowledgement is one of the backend's SYN, whose number is `answer`, or of the
/// little that may have followed it at once. A spoofed client does not know the number. Both are in
/// network order.
#[inline(always)]
#[must_use]
pub const fn acknowledges(number: u32, answer: u32) -> bool {
    u32::from_be(number).wrapping_sub(u32::from_be(answer)) <= 0xffff
}

/// The bits that a client's packet adds to its connection's state; none for all but a few.
/// `proved`: it shows that the client got the backend's answer.
#[inline(always)]
#[must_use]
pub const fn advance_client(now: u32, flags: Flags, proved: bool) -> u32 {
    let mut bits = 0;
    if flags.rst() {
        bits |= state::CLOSED;
    }
    if flags.fin() {
        bits |= state::CLIENT_FIN;
    }
    if proved && now & state::ANSWERED != 0 && !flags.syn() {
        bits |= state::ESTABLISHED;
    }
    close(now, bits)
}

/// The bits that a backend's packet adds. `answers`: it is a SYN-ACK, or a datagram.
#[inline(always)]
#[must_use]
pub const fn advance_backend(now: u32, flags: Flags, answers: bool) -> u32 {
    let mut bits = 0;
    if flags.rst() {
        bits |= state::CLOSED;
    }
    if flags.fin() {
        bits |= state::BACKEND_FIN;
        if now & state::CLIENT_FIN == 0 {
            bits |= state::BACKEND_FIRST;
        }
    }
    if answers {
        bits |= state::ANSWERED;
    }
    close(now, bits)
}

/// The bits that a client's packet adds where the backend's do not pass here. The first packet is
/// taken for answered, the next one for the proof.
#[inline(always)]
#[must_use]
pub const fn advance_one_way(now: u32, flags: Flags) -> u32 {
    let proved = now & state::ANSWERED != 0;
    advance_client(now, flags, proved) | state::ANSWERED & !now
}

#[inline(always)]
const fn close(now: u32, mut bits: u32) -> u32 {
    if (now | bits) & state::BOTH_FINS == state::BOTH_FINS {
        bits |= state::CLOSED;
    }
    bits & !now
}

/// What a client's SYN does to the connection that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nothing: it is a retransmission.
    Follow,
    /// Both ends are done with it: a new connection takes its place.
    Reopen,
    /// The backend refused, or did not answer in time: another one gets the attempt.
    Redispatch,
}

/// Microseconds that a backend has to answer: a client's SYN that comes later and is still
/// unanswered was sent again (RFC 6298 has a second for the first time; some send earlier).
pub const ANSWER_TIME: u32 = 500_000;

/// Backends that a client's attempt is given to, one after the other.
pub const ATTEMPTS: u32 = 4;

/// Decides what a client's SYN does to a connection in state `now` that was opened `age` microseconds
/// ago, `redispatch` where both directions pass here and there is another backend.
#[inline(always)]
#[must_use]
pub const fn again(now: u32, age: u32, redispatch: bool) -> Again {
    if now & state::CLOSED != 0 {
        return Again::Reopen;
    }
    let attempts = now >> state::ATTEMPTS_SHIFT & state::ATTEMPTS_MASK;
    let failed = now & state::REFUSED != 0 || age >= ANSWER_TIME;
    let fresh = now & (state::ANSWERED | state::ESTABLISHED) == 0;
    if redispatch && fresh && failed && attempts + 1 < ATTEMPTS {
        return Again::Redispatch;
    }
    Again::Follow
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    const SYN: Flags = Flags(0x02);
    const SYN_ACK: Flags = Flags(0x12);
    const ACK: Flags = Flags(0x10);
    const FIN: Flags = Flags(0x11);
    const RST: Flags = Flags(0x04);

    fn step(now: u32, way: Direction, flags: Flags) -> u32 {
        match way {
            Forward => advance_client(now, flags, flags.ack()),
            Reverse => advance_backend(now, flags, flags.syn() && flags.ack()),
        }
    }

    fn after(packets: &[(Direction, Flags)]) -> u32 {
        packets.iter().fold(0, |now, (way, flags)| now | step(now, *way, *flags))
    }

    #[test]
    fn a_handshake_establishes_and_two_fins_close() {
        assert_eq!(after(&[(Forward, SYN)]), 0);
        let answered = after(&[(Forward, SYN), (Reverse, SYN_ACK)]);
        assert_eq!(answered, state::ANSWERED);
        let open = after(&[(Forward, SYN), (Reverse, SYN_ACK), (Forward, ACK)]);
        assert_eq!(open, state::ANSWERED | state::ESTABLISHED);
        let half = open | step(open, Reverse, FIN);
        assert_eq!(half & (state::CLOSED | state::BACKEND_FIN), state::BACKEND_FIN);
        assert_ne!(half & state::BACKEND_FIRST, 0);
        let client_first = after(&[(Forward, FIN), (Reverse, FIN)]);
        assert_eq!(client_first & state::BACKEND_FIRST, 0);
        let closed = half | step(half, Forward, FIN);
        assert_ne!(closed & state::CLOSED, 0);
        assert_eq!(
            [again(closed, 0, true), again(half, u32::MAX, true)],
            [Again::Reopen, Again::Follow]
        );
    }

    #[test]
    fn every_packet_after_the_handshake_goes_on() {
        for flags in 0..=u8::MAX {
            let expected = Flags(flags).ack() && !Flags(flags).syn();
            assert_eq!(goes_on(Flags(flags)), u32::from(expected), "{flags:#x}");
        }
    }

    #[test]
    fn nothing_but_the_right_acknowledgement_establishes() {
        assert_eq!(after(&[(Forward, SYN), (Forward, ACK)]), 0);
        assert_eq!(after(&[(Forward, SYN), (Reverse, SYN_ACK), (Forward, SYN)]), state::ANSWERED);
        assert_eq!(advance_client(state::ANSWERED, ACK, false), 0);
        let be = u32::to_be;
        assert!(acknowledges(be(1001), be(1001)) && acknowledges(be(3000), be(1001)));
        assert!(acknowledges(be(5), be(u32::MAX)));
        assert!(!acknowledges(be(1000), be(1001)) && !acknowledges(be(0x8000_0000), be(1001)));
    }

    #[test]
    fn a_reset_closes_once() {
        let open = state::ANSWERED | state::ESTABLISHED;
        assert_eq!(step(open, Reverse, RST), state::CLOSED);
        assert_eq!(step(open | state::CLOSED, Forward, RST), 0);
    }

    #[test]
    fn udp_is_answered_by_any_packet() {
        let none = Flags::default();
        assert_eq!(advance_client(0, none, true), 0);
        assert_eq!(advance_backend(0, none, true), state::ANSWERED);
        assert_eq!(advance_client(state::ANSWERED, none, true), state::ESTABLISHED);
    }

    #[test]
    fn one_way_takes_two_packets() {
        for (first, second) in [(SYN, ACK), (Flags::default(), Flags::default())] {
            let once = advance_one_way(0, first);
            assert_eq!(once, state::ANSWERED);
            assert_eq!(advance_one_way(once, first) & state::ESTABLISHED != 0, !first.syn());
            assert_eq!(advance_one_way(once, second), state::ESTABLISHED);
        }
    }

    #[test]
    fn failed_attempts_go_to_another_backend() {
        assert_eq!(again(0, ANSWER_TIME - 1, true), Again::Follow);
        assert_eq!(again(0, ANSWER_TIME, true), Again::Redispatch);
        assert_eq!(again(0, ANSWER_TIME, false), Again::Follow);
        assert_eq!(again(state::REFUSED, 0, true), Again::Redispatch);
        assert_eq!(again(state::ANSWERED, ANSWER_TIME, true), Again::Follow);
        let tried = |times: u32| times << state::ATTEMPTS_SHIFT;
        assert_eq!(again(tried(ATTEMPTS - 2), ANSWER_TIME, true), Again::Redispatch);
        assert_eq!(again(tried(ATTEMPTS - 1), ANSWER_TIME, true), Again::Follow);
    }
}
