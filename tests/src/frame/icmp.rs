//! ICMP for both families: echo, and errors that quote the packet they are about (RFC 792,
//! RFC 4443).

use std::net::IpAddr;

use super::{CLIENT4, CLIENT6, Frame, Transport};
use crate::topology::{VIP4, VIP6};

/// How much of a packet an ICMP error over IPv4 quotes at most: the error's own packet stays within
/// 576 bytes (RFC 1812, section 4.3.2.3).
pub const MOST_QUOTED4: usize = 576 - 20 - 8;
/// How much of a packet an ICMP error over IPv6 quotes at most: the error's own packet stays within
/// 1280 bytes (RFC 4443, section 2.4).
pub const MOST_QUOTED6: usize = 1280 - 40 - 8;

const ECHO_REPLY4: u8 = 0;
const UNREACHABLE4: u8 = 3;
const ECHO4: u8 = 8;
const TIME_EXCEEDED4: u8 = 11;
const UNREACHABLE6: u8 = 1;
const TOO_BIG6: u8 = 2;
const TIME_EXCEEDED6: u8 = 3;
const ECHO6: u8 = 128;
const ECHO_REPLY6: u8 = 129;

impl Frame {
    /// An ICMP message over IPv4: type, code, and the second half of the header (identifier and
    /// sequence number, an MTU, or unused). What follows is the payload. Ports have no meaning.
    #[must_use]
    pub fn icmp4(kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self::new(CLIENT4.into(), VIP4.into(), 0, Transport::Icmp { kind, code, rest })
    }

    /// The same over IPv6, where the checksum covers the addresses too.
    #[must_use]
    pub fn icmp6(kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self::new(CLIENT6.into(), VIP6.into(), 0, Transport::Icmp { kind, code, rest })
    }

    /// An echo request over IPv4 with `payload`.
    #[must_use]
    pub fn echo4(id: u16, sequence: u16, payload: &[u8]) -> Self {
        Self::icmp4(ECHO4, 0, pair(id, sequence)).payload(payload)
    }

    /// An echo request over IPv6 with `payload`.
    #[must_use]
    pub fn echo6(id: u16, sequence: u16, payload: &[u8]) -> Self {
        Self::icmp6(ECHO6, 0, pair(id, sequence)).payload(payload)
    }

    /// The reply to an echo request: ends and MAC addresses swapped, everything else as it is.
    ///
    /// # Panics
    /// If the frame is no echo request.
    #[must_use]
    pub fn echo_reply(mut self) -> Self {
        let Transport::Icmp { kind, code: 0, .. } = &mut self.transport else { no_echo() };
        *kind = match (*kind, self.source) {
            (ECHO4, IpAddr::V4(_)) => ECHO_REPLY4,
            (ECHO6, IpAddr::V6(_)) => ECHO_REPLY6,
            _ => no_echo(),
        };
        (self.source, self.destination) = (self.destination, self.source);
        (self.source_mac, self.destination_mac) = (self.destination_mac, self.source_mac);
        self
    }

    /// An ICMP error over IPv4 about the IP packet of which `quoted` is the beginning.
    #[must_use]
    pub fn icmp_error4(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Self {
        Self::icmp4(kind, code, rest).payload(quoted)
    }

    /// An ICMP error over IPv6 about the IP packet of which `quoted` is the beginning.
    #[must_use]
    pub fn icmp_error6(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Self {
        Self::icmp6(kind, code, rest).payload(quoted)
    }

    /// Destination unreachable over IPv4: code 0 is the net, 1 the host, 3 the port, 13
    /// "administratively prohibited".
    #[must_use]
    pub fn unreachable4(code: u8, quoted: &[u8]) -> Self {
        Self::icmp_error4(UNREACHABLE4, code, [0; 4], quoted)
    }

    /// Destination unreachable over IPv6: code 0 is no route, 1 "administratively prohibited",
    /// 3 the address, 4 the port.
    #[must_use]
    pub fn unreachable6(code: u8, quoted: &[u8]) -> Self {
        Self::icmp_error6(UNREACHABLE6, code, [0; 4], quoted)
    }

    /// "Fragmentation needed and DF set", with the next hop's MTU (RFC 1191, section 4).
    #[must_use]
    pub fn fragmentation_needed(mtu: u16, quoted: &[u8]) -> Self {
        Self::icmp_error4(UNREACHABLE4, 4, pair(0, mtu), quoted)
    }

    /// "Packet too big", with the next hop's MTU.
    #[must_use]
    pub fn packet_too_big(mtu: u32, quoted: &[u8]) -> Self {
        Self::icmp_error6(TOO_BIG6, 0, mtu.to_be_bytes(), quoted)
    }

    /// The TTL ran out on the way (code 0), or fragments were missing too long (code 1).
    #[must_use]
    pub fn time_exceeded4(code: u8, quoted: &[u8]) -> Self {
        Self::icmp_error4(TIME_EXCEEDED4, code, [0; 4], quoted)
    }

    /// The same for IPv6.
    #[must_use]
    pub fn time_exceeded6(code: u8, quoted: &[u8]) -> Self {
        Self::icmp_error6(TIME_EXCEEDED6, code, [0; 4], quoted)
    }

    /// How an ICMP error quotes this frame's packet: the IP header, with options or extension
    /// headers, and at most `length` bytes after it. RFC 792 asks for 8; `usize::MAX` is all.
    #[must_use]
    pub fn quoted(&self, length: usize) -> Vec<u8> {
        let transport = self.transport();
        let mut packet = self.header(transport.len());
        packet.extend(&transport[..length.min(transport.len())]);
        packet
    }

    /// How an ICMP error quotes this frame's packet that has room for `most` bytes, such as
    /// [`MOST_QUOTED4`] and [`MOST_QUOTED6`].
    #[must_use]
    pub fn quoted_within(&self, most: usize) -> Vec<u8> {
        let mut packet = self.packet();
        packet.truncate(most);
        packet
    }
}

fn pair(first: u16, second: u16) -> [u8; 4] {
    (u32::from(first) << 16 | u32::from(second)).to_be_bytes()
}

fn no_echo() -> ! {
    panic!("only an echo request is replied to")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{super::*, *};

    #[test]
    fn an_echo_request_has_its_known_bytes() {
        let bytes = Frame::echo4(0x1234, 1, b"abc").build();
        // The sum of 0800 0000 1234 0001 6162 6300 is de97; the checksum is its complement.
        let expected = [8, 0, 0x21, 0x68, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        assert_eq!(bytes[14 + 20..], expected);
        assert_eq!(bytes[14 + 9], ICMP);

        let ends = |frame: Frame| {
            let one = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            frame.from(one, 0).to(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2), 0)
        };
        let bytes = ends(Frame::echo6(0x1234, 1, b"abc")).build();
        // fe80 + 1 + fe80 + 2, length 11, protocol 58, and 8000 0000 1234 0001 6162 6300.
        let sum = 0xfe80 + 1 + 0xfe80 + 2 + 11 + 58 + 0x8000 + 0x1234 + 1 + 0x6162 + 0x6300_u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        assert_eq!(sum, 0x53e2);
        let expected = [128, 0, 0xac, 0x1d, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        assert_eq!(bytes[14 + 40..], expected);
        assert_eq!(bytes[14 + 6], ICMPV6);
    }

    #[test]
    fn a_reply_turns_the_request_round() {
        for (request, kind) in [(Frame::echo4(7, 8, b"x"), 0), (Frame::echo6(7, 8, b"x"), 129)] {
            let (request, reply) = (request.clone().build(), request.echo_reply().build());
            verify_checksums(&reply).unwrap();
            let (request, reply) = (parse(&request).unwrap(), parse(&reply).unwrap());
            assert_eq!((reply.source, reply.destination), (request.destination, request.source));
            assert_eq!(reply.source_mac, request.destination_mac);
            assert_eq!(reply.icmp, Some((kind, 0, [0, 7, 0, 8])));
            assert_eq!(reply.payload(), b"x");
        }
    }

    #[test]
    fn fragmentation_needed_has_its_known_bytes() {
        let big = Frame::udp4().payload(&[0; 100]).id(1);
        let quoted = big.quoted(8);
        assert_eq!(quoted.len(), 28);
        let router = Ipv4Addr::new(203, 0, 113, 1);
        let bytes = Frame::fragmentation_needed(1400, &quoted).from(router, 0).build();
        let header =
            [0x45, 0, 0, 0x80, 0, 1, 0x40, 0, 64, 17, 0x4e, 0x2c, 198, 51, 100, 2, 192, 0, 2, 10];
        assert_eq!(fold(&[&header]), 0xffff, "the vector is right");
        assert_eq!(bytes[14 + 28..14 + 48], header);
        assert_eq!(bytes[14 + 20..14 + 22], [3, 4]);
        assert_eq!(bytes[14 + 24..14 + 28], [0, 0, 0x05, 0x78]);
        assert_eq!(bytes[14 + 48..14 + 54], [0x9c, 0x40, 0, 53, 0, 108]);
        verify_checksums(&bytes).unwrap();
        assert_eq!(&bytes[26..30], router.octets());
    }

    #[test]
    fn an_error_is_no_longer_than_it_may_be() {
        let big = Frame::tcp4().payload(&[1; 1400]);
        let error = Frame::time_exceeded4(0, &big.quoted_within(MOST_QUOTED4));
        assert_eq!(error.packet().len(), 576);
        let big = Frame::tcp6().payload(&[1; 1400]);
        let error = Frame::packet_too_big(1300, &big.quoted_within(MOST_QUOTED6));
        assert_eq!(error.packet().len(), 1280);
        assert_eq!(big.quoted(usize::MAX), big.packet());
        assert_eq!(big.quoted(8), big.quoted_within(48));
    }
}
