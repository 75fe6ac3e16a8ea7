//! Tunnels: a frame's IP packet inside another one, of the same family or the other.
//!
//! What the outer header copies from the inner one is what RFC 2003 (section 3.1) and RFC 2473
//! (section 6) ask for; every outer field can be set afterwards like any frame's.

use std::net::{IpAddr, SocketAddr};

use super::{Frame, IP6IP, IPIP, Transport};

impl Frame {
    /// The packet of this frame inside an IP packet (IPIP: 4in4, 6in6, 4in6 or 6in4, as the
    /// addresses say), in a frame with the same MAC addresses and VLAN tags. The type of service
    /// is the inner one's, and so is "don't fragment", which an inner IPv6 packet implies; the
    /// TTL is 64. From here on the setters set the outer header.
    #[must_use]
    pub fn in_ipip(self, source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        let number = if self.is_v4() { IPIP } else { IP6IP };
        let outer = SocketAddr::new(destination.into(), 0);
        self.inside(Transport::Raw(number), SocketAddr::new(source.into(), 0), outer)
    }

    /// The packet of this frame inside GUE variant 1 (UDP, and the packet right after it), as
    /// [`Frame::in_ipip`] does it. UDP's checksum is right; `checksum(0)` makes it none.
    #[must_use]
    pub fn in_gue(self, source: SocketAddr, destination: SocketAddr) -> Self {
        self.inside(Transport::Udp, source, destination)
    }

    fn inside(self, transport: Transport, source: SocketAddr, destination: SocketAddr) -> Self {
        let keeps_whole = !self.is_v4() || self.fragment & 0x4000 != 0;
        Self {
            vlans: self.vlans.clone(),
            trailer: self.trailer.clone(),
            ..Self::new(source.ip(), destination.ip(), destination.port(), transport)
        }
        .source_port(source.port())
        .macs(self.source_mac, self.destination_mac)
        .tos(self.tos)
        .dont_fragment(keeps_whole)
        .payload(&self.packet())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{super::*, *};

    const EDGE4: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
    const WEB4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
    const EDGE6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 1, 2);
    const WEB6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 11);

    fn ends() -> [(IpAddr, IpAddr); 2] {
        [(EDGE4.into(), WEB4.into()), (EDGE6.into(), WEB6.into())]
    }

    #[test]
    fn four_in_four_has_its_known_bytes() {
        let inner = Frame::udp4().tos(0x28).ttl(5);
        let bytes = inner.clone().in_ipip(EDGE4, WEB4).id(0).ttl(63).build();
        // 20 bytes of IP, 8 of UDP, 4 of payload inside; the header's own 20 around.
        let outer =
            [0x45, 0x28, 0, 0x34, 0, 0, 0x40, 0, 63, 4, 0x6a, 0x7f, 198, 18, 1, 2, 10, 0, 0, 11];
        assert_eq!(fold(&[&outer]), 0xffff, "the vector is right");
        assert_eq!(bytes[14..34], outer);
        assert_eq!(bytes[34..], inner.build()[14..]);
    }

    #[test]
    fn six_in_six_has_its_known_bytes() {
        let inner = Frame::udp6().tos(0xb8).flow_label(0x12345);
        let bytes = inner.clone().in_ipip(EDGE6, WEB6).flow_label(0xf_0001).build();
        assert_eq!(bytes[14..22], [0x6b, 0x8f, 0, 1, 0, 52, 41, 64]);
        assert_eq!(bytes[22..38], EDGE6.octets());
        assert_eq!(bytes[38..54], WEB6.octets());
        assert_eq!(bytes[54..], inner.packet());
    }

    #[test]
    fn gue_has_its_known_bytes() {
        let inner = Frame::tcp6();
        let (from, to) = ((EDGE4, 0xc001).into(), (WEB4, GUE_PORT).into());
        let bytes = inner.clone().in_gue(from, to).checksum(0).build();
        assert_eq!((bytes[12..14].to_vec(), bytes[23]), (vec![8, 0], UDP));
        assert_eq!(bytes[34..42], [0xc0, 1, 0x17, 0xc0, 0, 68, 0, 0]);
        assert_eq!(bytes[42..], inner.packet());
    }

    #[test]
    fn every_mix_is_read_back() {
        for (name, inner) in [("v4", Frame::tcp4()), ("v6", Frame::tcp6())] {
            let inner = inner.tos(0xb9).vlan(VLAN, 5);
            let plain = parse(&inner.build()).unwrap();
            for (source, destination) in ends() {
                let gue = inner.clone().in_gue((source, 50_000).into(), (destination, 6080).into());
                let mut tunnels = vec![
                    ("ipip", inner.clone().in_ipip(source, destination)),
                    ("gue", gue.clone()),
                    ("gue without a checksum", gue.checksum(0)),
                ];
                for (kind, tunnel) in &mut tunnels {
                    let name = format!("{name} in {kind} from {source}");
                    let bytes = tunnel.build();
                    let outer = parse(&bytes).unwrap();
                    assert_eq!((outer.source, outer.destination), (source, destination), "{name}");
                    assert_eq!((outer.tos, outer.vlans.as_slice()), (0xb9, &[5][..]), "{name}");
                    let inner = outer.inner.clone().unwrap();
                    assert_eq!(inner.segment, plain.segment, "{name}");
                    assert_eq!((inner.source, inner.flags), (plain.source, SYN), "{name}");
                    verify_checksums(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
                    // The inner checksum is looked at too.
                    let mut bytes = tunnel.clone().build();
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    verify_checksums(&bytes).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn the_outer_packet_may_be_fragmented_if_the_inner_one_may() {
        let outer = |frame: Frame| parse(&frame.in_ipip(EDGE4, WEB4).build()).unwrap();
        assert!(outer(Frame::tcp4()).dont_fragment);
        assert!(!outer(Frame::tcp4().dont_fragment(false)).dont_fragment);
        assert!(outer(Frame::tcp6()).dont_fragment);
    }
}
