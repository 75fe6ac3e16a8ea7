//! The packet that an error quotes, and the translation of both.

use lb_common::{
    connection::{Connection, Flow},
    net::{Address as _, Ports, TCP, UDP},
    verdict::Verdict,
};

use super::{Icmp, Messages, Start, TcpRest, word};
use crate::{
    checksum,
    family::{Family, Network},
    frame::Frame,
};

/// The quoted packet ends too early.
const CUT: Verdict = Verdict::DROP_MALFORMED_TRANSPORT;

/// The packet that an error quotes, as far as it does.
pub struct Quote<'a, F: Family> {
    header: &'a mut F::Header,
    protocol: u8,
    ports: &'a mut [u8; 4],
    /// The transport checksum, where the quote is that long.
    check: Option<&'a mut [u8; 2]>,
}

impl<'a, F: Messages> Quote<'a, F> {
    /// Takes the packet quoted by the error whose header was taken off `frame`; `network` is what
    /// the error's own IP header says.
    ///
    /// # Errors
    ///
    /// The verdict for a message that quotes no TCP or UDP ports. A drop is for a service's
    /// packets only.
    #[inline(always)]
    pub fn take(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        let room = (network.payload as usize).saturating_sub(Icmp::LEN);
        let header = frame.take::<F::Header>().ok_or(CUT)?;
        let (protocol, rest) = F::quoted(header, frame, room)?;
        if protocol != TCP && protocol != UDP {
            return Err(Verdict::PASS_PROTOCOL);
        }
        // The frame may be longer than the message: Ethernet's padding is no quote.
        if rest < size_of::<Start>() {
            return Err(CUT);
        }
        let Start { ports, check, .. } = frame.take::<Start>().ok_or(CUT)?;
        let check = if protocol == UDP {
            Some(check)
        } else if rest >= size_of::<Start>() + size_of::<TcpRest>() {
            frame.take::<TcpRest>().map(|rest| &mut rest.check)
        } else {
            None
        };
        Ok(Self { header, protocol, ports, check })
    }

    /// The flow that goes against the quoted packet's.
    #[inline(always)]
    #[must_use]
    pub fn back(&self) -> Flow<F::Address> {
        Flow {
            source: F::destination(self.header),
            destination: F::source(self.header),
            ports: Ports::from_wire(*self.ports).turned(),
            protocol: u32::from(self.protocol),
        }
    }

    /// Makes the quoted packet that of its connection's other side: the one that went against what
    /// `connection` makes of the flow that goes against it. Returns by how much the sum of the
    /// quote's words moves.
    #[inline(always)]
    fn translate(&mut self, connection: &Connection<F::Address>) -> u16 {
        let rewrite = &connection.rewrite;
        F::set_source(self.header, &rewrite.destination);
        F::set_destination(self.header, &rewrite.source);
        // Both directions have the same addresses and ports, and so the same deltas.
        let delta = checksum::fold(u32::from(connection.network_delta) + checksum::TTL_STEP);
        F::move_checksum(self.header, delta);
        let (old, new) = (Ports::from_wire(*self.ports).sum(), rewrite.ports.sum());
        *self.ports = rewrite.ports.turned().to_wire();
        let delta = connection.transport_delta;
        let mut moved = if F::SUMMED { checksum::delta(old, new) } else { delta };
        if let Some(check) = &mut self.check {
            let old = word(**check);
            if self.protocol == UDP {
                checksum::apply_udp(check, delta);
            } else {
                checksum::apply(check, delta);
            }
            moved =
                checksum::fold(u32::from(moved) + u32::from(checksum::delta(old, word(**check))));
        }
        moved
    }
}

/// Makes of an error the one that the end understands to which `connection` leads. Its source
/// becomes the connection's, too, unless it is to `keep` its own.
#[inline(always)]
pub fn translate<F: Messages>(
    header: &mut F::Header,
    icmp: &mut Icmp,
    mut quote: Quote<'_, F>,
    connection: &Connection<F::Address>,
    keep: bool,
) {
    let rewrite = &connection.rewrite;
    let mut old = F::destination(header).sum();
    let mut new = rewrite.destination.sum();
    F::set_destination(header, &rewrite.destination);
    if !keep {
        old += F::source(header).sum();
        new += rewrite.source.sum();
        F::set_source(header, &rewrite.source);
    }
    let ends = checksum::delta(old, new);
    F::move_checksum(header, ends);
    F::decrement(header);
    let mut moved = u32::from(quote.translate(connection));
    if !F::SUMMED {
        moved += u32::from(ends);
    }
    checksum::apply(&mut icmp.check, checksum::fold(moved));
}

#[cfg(test)]
mod tests {
    use lb_common::{
        connection::Rewrite,
        net::{Addr4, Be16},
    };
    use network_types::ip::Ipv4Hdr;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        family::{V4, V6},
        nat,
    };

    fn checksum(parts: &[&[u8]]) -> u16 {
        let bytes = parts.concat();
        let words = bytes.chunks(2);
        let sum =
            words.map(|word| u32::from(u16::from_ne_bytes([word[0], *word.get(1).unwrap_or(&0)])));
        !checksum::fold(sum.sum())
    }

    fn addr4(last: u8) -> Addr4 {
        Addr4::from_wire([192, 0, 2, last])
    }

    /// An error over IPv4 that quotes `length` bytes of a segment between two endpoints, and the
    /// connection that leads to another pair of them.
    fn error4(protocol: u8, length: usize, ports: [u16; 4]) -> (Vec<u8>, Connection<Addr4>) {
        let [a, b, c, d] = ports.map(Be16::new);
        let ports = Ports::new(c, d);
        let rewrite = Rewrite { source: addr4(3), destination: addr4(4), ports };
        let flow = Flow::new((addr4(2), b), (addr4(1), a), protocol);
        let (network_delta, transport_delta) = nat::deltas(&flow, &rewrite);
        let connection =
            Connection { rewrite, network_delta, transport_delta, ..Connection::default() };
        let mut bytes = vec![0; 20 + 8 + 20 + length];
        let total = bytes.len();
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
        bytes[8..10].copy_from_slice(&[64, 1]);
        bytes[12..16].copy_from_slice(&addr4(9).to_wire());
        bytes[16..20].copy_from_slice(&addr4(1).to_wire());
        bytes[20..22].copy_from_slice(&[3, 3]);
        bytes[28] = 0x45;
        bytes[36..38].copy_from_slice(&[60, protocol]);
        bytes[40..44].copy_from_slice(&addr4(1).to_wire());
        bytes[44..48].copy_from_slice(&addr4(2).to_wire());
        let mut segment = [0x5a; 40];
        segment[..2].copy_from_slice(&a.to_wire());
        segment[2..4].copy_from_slice(&b.to_wire());
        bytes[48..].copy_from_slice(&segment[..length]);
        for range in [0..20, 28..48, 20..total] {
            let at = range.start + if range.end == total { 2 } else { 10 };
            let sum = checksum(&[&bytes[range]]).to_ne_bytes();
            bytes[at..at + 2].copy_from_slice(&sum);
        }
        (bytes, connection)
    }

    proptest! {
        #[test]
        fn an_error_stays_right_in_all_its_checksums(
            udp: bool, length in 8_usize..40, ports: [u16; 4], keep: bool,
        ) {
            let protocol = if udp { UDP } else { TCP };
            let (mut bytes, connection) = error4(protocol, length, ports);
            let mut frame = Frame::new(&mut bytes);
            let header = frame.take::<Ipv4Hdr>().unwrap();
            let icmp = frame.take::<Icmp>().unwrap();
            let payload = u32::try_from(8 + 20 + length).unwrap();
            let network = Network { protocol: 1, length: 20 + payload, payload };
            let quote = Quote::<V4>::take(&mut frame, &network).unwrap();
            prop_assert_eq!(quote.back().source, addr4(2));
            prop_assert_eq!(quote.back().ports.destination(), Be16::new(ports[0]));
            translate::<V4>(header, icmp, quote, &connection, keep);
            for range in [0..20, 28..48, 20..bytes.len()] {
                prop_assert_eq!(checksum(&[&bytes[range.clone()]]), 0, "{:?}", range);
            }
            let source = if keep { addr4(9) } else { addr4(3) };
            prop_assert_eq!(&bytes[12..16], source.to_wire());
            prop_assert_eq!(&bytes[16..20], addr4(4).to_wire());
            prop_assert_eq!(&bytes[40..48], [addr4(4).to_wire(), addr4(3).to_wire()].concat());
            prop_assert_eq!(bytes[8], 63);
        }

        #[test]
        fn no_quote_is_read_beyond_its_message(bytes: Vec<u8>, payload in 0_u32..200) {
            let network = Network { protocol: 0, length: 0, payload };
            let room = (payload as usize).saturating_sub(Icmp::LEN);
            if let Ok(quote) = Quote::<V4>::take(&mut Frame::new(&mut bytes.clone()), &network) {
                let header = usize::from(bytes[0] & 15) * 4;
                let read = header + if quote.check.is_some() && quote.protocol == TCP { 18 } else { 8 };
                prop_assert!(header >= 20 && read <= room && read <= bytes.len());
            }
            if let Ok(quote) = Quote::<V6>::take(&mut Frame::new(&mut bytes.clone()), &network) {
                let read = 40 + if quote.check.is_some() && quote.protocol == TCP { 18 } else { 8 };
                prop_assert!(read <= room && read <= bytes.len());
            }
        }
    }
}
