//! Packets of our own: the RST or the ICMP error that answers a packet.
//!
//! Knows bytes. When to answer, and making room in the frame, is the program's business.

use lb_common::net::{Address as _, TCP};
use network_types::{bitfield::BitfieldU16, tcp::TcpHdr};

use crate::{
    checksum,
    family::Family,
    frame::{Frame, SUMMED},
    message::{Icmp, Messages},
};

/// How much of a packet an error quotes at the most, in bytes: what RFC 4884 asks of the shortest
/// quote that something follows, and more than enough for every transport header without options.
#[expect(clippy::cast_possible_truncation, reason = "128")]
pub const QUOTED: u32 = SUMMED as u32;

/// Bytes that an error has in front of its quote.
#[inline(always)]
#[must_use]
pub const fn overhead<F: Family>() -> usize {
    size_of::<F::Header>() + Icmp::LEN
}

/// Type, code and the rest of the header of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: u8,
    code: u8,
    rest: [u8; 4],
}

impl Error {
    /// Packets that are longer than `mtu` bytes do not fit (RFC 1191, section 4; RFC 4443,
    /// section 3.2).
    #[inline(always)]
    #[must_use]
    pub fn too_big<F: Messages>(mtu: u32) -> Self {
        let (kind, code) = F::TOO_BIG;
        // IPv4 has sixteen bits of it, and no packet that is longer.
        let mtu = if mtu < F::LEAST_MTU { F::LEAST_MTU } else { mtu };
        Self { kind, code, rest: mtu.to_be_bytes() }
    }

    /// Nobody listens at the port.
    #[inline(always)]
    #[must_use]
    pub const fn port_unreachable<F: Messages>() -> Self {
        let (kind, code) = F::PORT_UNREACHABLE;
        Self { kind, code, rest: [0; 4] }
    }

    /// Writes the error's headers into the room in front of the packet that it quotes. All that
    /// is left of `frame` after that room is the quote: an even number of bytes, [`QUOTED`] at the
    /// most, and no less than an IP header. `None` where it is less.
    #[inline(always)]
    pub fn put<F: Messages>(self, frame: &mut Frame<'_>) -> Option<()> {
        let header = frame.take::<F::Header>()?;
        let icmp = frame.take::<Icmp>()?;
        #[expect(clippy::cast_possible_truncation, reason = "136 at the most")]
        let length = (frame.remaining() + Icmp::LEN) as u16;
        let mut sum = frame.sum();
        let quoted = frame.take::<F::Header>()?;
        let (source, destination) = (F::destination(quoted), F::source(quoted));
        F::compose(header, &source, &destination, (F::ICMP, length));
        let Self { kind, code, rest } = self;
        *icmp = Icmp { kind, code, check: [0; 2], rest };
        sum += u32::from(u16::from_ne_bytes([kind, code])) + halves(rest);
        if !F::SUMMED {
            sum += pseudo(source.sum() + destination.sum(), F::ICMP, length);
        }
        icmp.check = (!checksum::fold(sum)).to_ne_bytes();
        Some(())
    }
}

/// What a RST has to know of the segment that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source_port: [u8; 2],
    /// Destination port.
    pub destination_port: [u8; 2],
    /// Sequence number after the segment, SYN and FIN counted.
    end: u32,
    /// Acknowledgement number, where there is one.
    acknowledged: Option<u32>,
}

impl Segment {
    /// Reads a segment that is `payload` bytes long; `None` for a RST, which nobody answers, and
    /// where the header is longer than the segment.
    #[inline(always)]
    #[must_use]
    pub fn of(tcp: &TcpHdr, payload: u32) -> Option<Self> {
        let header = u32::from(tcp.doff()) * 4;
        if tcp.rst() != 0 || header > payload {
            return None;
        }
        let counted = u32::from(tcp.syn() != 0) + u32::from(tcp.fin() != 0);
        let length = payload - header + counted;
        let acknowledged = u32::from_be_bytes(tcp.ack_seq);
        Some(Self {
            source_port: tcp.source,
            destination_port: tcp.dest,
            end: u32::from_be_bytes(tcp.seq).wrapping_add(length),
            acknowledged: (tcp.ack() != 0).then_some(acknowledged),
        })
    }

    /// Makes the segment's own headers, cut off after TCP's fixed one, those of the RST that
    /// answers it (RFC 9293, section 3.10.7.1).
    #[inline(always)]
    pub fn reset<F: Messages>(&self, header: &mut F::Header, tcp: &mut TcpHdr) {
        /// A header of five words, RST.
        const RST: [u8; 2] = [5 << 4, 1 << 2];
        const RST_ACK: [u8; 2] = [5 << 4, 1 << 4 | 1 << 2];
        #[expect(clippy::cast_possible_truncation, reason = "twenty")]
        let length = TcpHdr::LEN as u16;
        let (source, destination) = (F::destination(header), F::source(header));
        F::compose(header, &source, &destination, (TCP, length));
        let (sequence, acknowledgement, flags) = match self.acknowledged {
            Some(number) => (number.to_be_bytes(), [0; 4], RST),
            None => ([0; 4], self.end.to_be_bytes(), RST_ACK),
        };
        tcp.source = self.destination_port;
        tcp.dest = self.source_port;
        tcp.seq = sequence;
        tcp.ack_seq = acknowledgement;
        tcp._bitfield_1 = BitfieldU16::new(flags);
        tcp.window = [0; 2];
        tcp.urg_ptr = [0; 2];
        let word = |bytes: [u8; 2]| u32::from(u16::from_ne_bytes(bytes));
        let sum = pseudo(source.sum() + destination.sum(), TCP, length)
            + word(tcp.source)
            + word(tcp.dest)
            + halves(sequence)
            + halves(acknowledgement)
            + word(flags);
        tcp.check = (!checksum::fold(sum)).to_ne_bytes();
    }
}

/// The sum of a pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
#[inline(always)]
fn pseudo(ends: u32, protocol: u8, length: u16) -> u32 {
    ends + u32::from(u16::from(protocol).to_be()) + u32::from(length.to_be())
}

#[inline(always)]
fn halves(bytes: [u8; 4]) -> u32 {
    let [a, b, c, d] = bytes;
    u32::from(u16::from_ne_bytes([a, b])) + u32::from(u16::from_ne_bytes([c, d]))
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::family::{V4, V6};

    fn sum(parts: &[&[u8]]) -> u16 {
        let bytes = parts.concat();
        let words = bytes.chunks(2).map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])));
        checksum::fold(words.sum())
    }

    /// A packet of which all but the addresses and the length is noise.
    fn quoted(header: usize, length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at % 251).unwrap() ^ u8::try_from(header).unwrap())
            .collect()
    }

    #[test]
    fn an_error_has_its_known_fields_and_right_checksums() {
        for length in (20..=128).step_by(2) {
            let quote = quoted(20, length);
            let mut bytes = [vec![0xee; 28], quote.clone()].concat();
            Error::too_big::<V4>(1400).put::<V4>(&mut Frame::new(&mut bytes)).unwrap();
            let total = u8::try_from(28 + length).unwrap();
            assert_eq!(bytes[..10], [0x45, 0, 0, total, 0, 0, 0x40, 0, 64, 1]);
            assert_eq!(bytes[12..20], [&quote[16..20], &quote[12..16]].concat());
            assert_eq!((&bytes[20..22], &bytes[24..28]), (&[3, 4][..], &[0, 0, 0x05, 0x78][..]));
            assert_eq!(bytes[28..], quote);
            assert_eq!((sum(&[&bytes[..20]]), sum(&[&bytes[20..]])), (0xffff, 0xffff));
        }
        for length in (40..=128).step_by(2) {
            let quote = quoted(40, length);
            let mut bytes = [vec![0xee; 48], quote.clone()].concat();
            Error::port_unreachable::<V6>().put::<V6>(&mut Frame::new(&mut bytes)).unwrap();
            let payload = u8::try_from(8 + length).unwrap();
            assert_eq!(bytes[..8], [0x60, 0, 0, 0, 0, payload, 58, 64]);
            assert_eq!(bytes[8..40], [&quote[24..40], &quote[8..24]].concat());
            assert_eq!((&bytes[40..42], &bytes[44..48]), (&[1, 4][..], &[0; 4][..]));
            assert_eq!(sum(&[&bytes[8..], &[0, payload, 0, 58]]), 0xffff);
        }
        let short = &mut [0; 28 + 19];
        assert!(Error::too_big::<V4>(1400).put::<V4>(&mut Frame::new(short)).is_none());
    }

    #[test]
    fn nobody_is_told_less_than_a_family_carries() {
        assert_eq!(Error::too_big::<V4>(0).rest, [0, 0, 0, 68]);
        assert_eq!(Error::too_big::<V6>(1279).rest, [0, 0, 5, 0]);
    }

    #[test]
    fn a_segment_is_reset_as_the_rfc_says() {
        let segment = |flags: u8, payload: u32| {
            let mut bytes = [0x5a; 40 + 20];
            bytes[..12].copy_from_slice(&[0, 80, 1, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9]);
            bytes[12..14].copy_from_slice(&[0x60, flags]);
            Segment::of(Frame::new(&mut bytes).take::<TcpHdr>().unwrap(), payload)
        };
        assert_eq!(segment(2, 23), None, "a header longer than the segment");
        assert_eq!(segment(4 | 16, 24), None, "nobody answers a RST");
        for (flags, payload, expected) in [
            (2_u8, 24, [0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x14]),
            (2, 27, [0, 0, 0, 0, 0, 0, 0, 3, 0x50, 0x14]),
            (1, 25, [0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x14]),
            (1 | 16, 25, [0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x04]),
        ] {
            let segment = segment(flags, payload).unwrap();
            let mut bytes = quoted(40, 60);
            let before = bytes.clone();
            let mut frame = Frame::new(&mut bytes);
            let header = frame.take().unwrap();
            segment.reset::<V6>(header, frame.take().unwrap());
            assert_eq!(bytes[8..40], [&before[24..40], &before[8..24]].concat());
            assert_eq!(bytes[40..44], [1, 2, 0, 80]);
            assert_eq!(bytes[44..54], expected);
            assert_eq!(sum(&[&bytes[8..], &[0, 20, 0, 6]]), 0xffff);
        }
    }
}
