//! ICMP messages (RFC 792, RFC 4443): what they say, the packet that an error quotes, and how both
//! become those that a connection's other side understands.
//!
//! Knows bytes. Which connection a message is about, and where it goes, is the program's business.

mod family;
mod quote;

pub use self::{
    family::Messages,
    quote::{Quote, translate},
};
use crate::{checksum, ethernet::Ethernet};

/// TTL and hop limit of packets of our own (RFC 1700's recommended default).
pub const TTL: u8 = 64;

/// The header of an ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub check: [u8; 2],
    /// Identifier and sequence number, or an MTU, or a pointer.
    pub rest: [u8; 4],
}

impl Icmp {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();
}

/// The first eight bytes of a TCP or UDP header: all that an error has to quote (RFC 792).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Source and destination port.
    pub ports: [u8; 4],
    /// UDP's length, or half of TCP's sequence number.
    pub middle: [u8; 2],
    /// UDP's checksum, or the other half.
    pub check: [u8; 2],
}

/// What follows [`Start`] in a TCP header, up to its checksum.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpRest {
    /// Acknowledgement number, header length, flags and window.
    pub fields: [u8; 8],
    /// Checksum.
    pub check: [u8; 2],
}

/// Makes the reply of an echo request.
#[inline(always)]
pub fn answer_echo<F: Messages>(ethernet: &mut Ethernet, header: &mut F::Header, icmp: &mut Icmp) {
    ethernet.turn();
    F::turn(header);
    let word = |kind: u8| word([kind, 0]);
    checksum::apply(&mut icmp.check, checksum::delta(word(F::ECHO), word(F::ECHO_REPLY)));
    icmp.kind = F::ECHO_REPLY;
    // A message of zeros alone has the checksum of all ones (RFC 1624, section 3); of any other,
    // either is right.
    if icmp.check == [0; 2] && icmp.rest == [0; 4] {
        icmp.check = [0xff; 2];
    }
}

#[inline(always)]
const fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes) as u32
}

#[cfg(test)]
mod tests {
    use network_types::ip::Ipv4Hdr;
    use std::vec;

    use super::*;
    use crate::{family::V4, frame::Frame};

    #[test]
    fn an_echo_of_zeros_has_a_checksum() {
        let mut ethernet = Ethernet { destination: [1; 6], source: [2; 6], ether_type: [8, 0] };
        // From 1.2.3.4 to 5.6.7.8, of 28 bytes; the words but for the checksum sum up to 920c.
        let mut bytes =
            vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 3, 1, 0x6d, 0xf3, 1, 2, 3, 4, 5, 6, 7, 8];
        let header = Frame::new(&mut bytes).take::<Ipv4Hdr>().unwrap();
        let mut icmp = Icmp { kind: 8, code: 0, check: [0xf7, 0xff], rest: [0; 4] };
        answer_echo::<V4>(&mut ethernet, header, &mut icmp);
        assert_eq!((icmp.kind, icmp.check), (0, [0xff; 2]));
        assert_eq!((ethernet.destination, ethernet.source), ([2; 6], [1; 6]));
        assert_eq!(bytes[12..], [5, 6, 7, 8, 1, 2, 3, 4]);
        assert_eq!((bytes[8], &bytes[10..12]), (64, &[0x30, 0xf3][..]));
    }
}
