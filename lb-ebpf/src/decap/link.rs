//! The link header of a frame, kept while what follows it is taken away: Ethernet with up to two
//! VLAN tags (IEEE 802.1Q).

use crate::{
    ethernet::Tag,
    frame::{Frame, Header},
};

/// An Ethernet header, cut into the words that it is copied in.
#[repr(C)]
struct Words {
    /// Destination and source address.
    addresses: [[u8; 4]; 3],
    /// Type of what follows, in network byte order.
    ether_type: [u8; 2],
}

// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for Words {}

/// The link header of a frame: numbers with their bytes as on the wire. Words and not bytes, since
/// this is kept on the stack, where the verifier wants every word aligned.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Destination and source address.
    addresses: [u32; 3],
    /// How many tags there are.
    depth: u32,
    /// The types of Ethernet's payload and of each tag's.
    types: [u16; 3],
    /// What each tag says.
    controls: [u16; 2],
}

impl Link {
    /// Takes the link header off the frame's front. A third tag is none: it is left, and told as
    /// the payload's type.
    #[inline(always)]
    #[must_use]
    pub fn take(frame: &mut Frame<'_>) -> Option<Self> {
        let ethernet = frame.take::<Words>()?;
        let [a, b, c] = ethernet.addresses;
        let addresses = [u32::from_ne_bytes(a), u32::from_ne_bytes(b), u32::from_ne_bytes(c)];
        let mut types = [u16::from_ne_bytes(ethernet.ether_type), 0, 0];
        let mut controls = [0; 2];
        let mut depth = 0;
        if Tag::follows(ethernet.ether_type) {
            let tag = frame.take::<Tag>()?;
            (controls[0], types[1]) = words(tag);
            depth = 1;
            if Tag::follows(tag.ether_type) {
                (controls[1], types[2]) = words(frame.take::<Tag>()?);
                depth = 2;
            }
        }
        Some(Self { addresses, depth, types, controls })
    }

    /// `EtherType` of the payload, in the host's byte order.
    #[inline(always)]
    #[must_use]
    pub const fn ether_type(&self) -> u16 {
        u16::from_be(match self.depth {
            0 => self.types[0],
            1 => self.types[1],
            _ => self.types[2],
        })
    }

    /// Writes the header to a frame's front, with another type of the payload. `None` where the
    /// frame is shorter than the header.
    #[inline(always)]
    pub fn put(&self, frame: &mut Frame<'_>, ether_type: u16) -> Option<()> {
        let payload = ether_type.to_be();
        let ethernet = frame.take::<Words>()?;
        let [a, b, c] = self.addresses;
        ethernet.addresses = [a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes()];
        let first = if self.depth == 0 { payload } else { self.types[0] };
        ethernet.ether_type = first.to_ne_bytes();
        if self.depth > 0 {
            let second = if self.depth == 1 { payload } else { self.types[1] };
            put(frame.take::<Tag>()?, self.controls[0], second);
        }
        if self.depth > 1 {
            put(frame.take::<Tag>()?, self.controls[1], payload);
        }
        Some(())
    }
}

#[inline(always)]
const fn words(tag: &Tag) -> (u16, u16) {
    (u16::from_ne_bytes(tag.control), u16::from_ne_bytes(tag.ether_type))
}

#[inline(always)]
const fn put(tag: &mut Tag, control: u16, ether_type: u16) {
    tag.control = control.to_ne_bytes();
    tag.ether_type = ether_type.to_ne_bytes();
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn frame(types: &[u16]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (1..=12).collect();
        for (n, ether_type) in (0_u8..).zip(types) {
            if n > 0 {
                bytes.extend([0xa0 | n, n]);
            }
            bytes.extend(ether_type.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_header_comes_back_with_another_payload() {
        let kinds = [&[0x0800][..], &[0x8100, 0x0800], &[0x88a8, 0x8100, 0x0800]];
        for types in kinds {
            let mut bytes = frame(types);
            let link = Link::take(&mut Frame::new(&mut bytes)).unwrap();
            assert_eq!(link.ether_type(), 0x0800);
            let mut copy = std::vec![0; bytes.len()];
            link.put(&mut Frame::new(&mut copy), 0x86dd).unwrap();
            let end = bytes.len() - 2;
            assert_eq!(copy[..end], bytes[..end], "{types:x?}");
            assert_eq!(copy[end..], [0x86, 0xdd], "{types:x?}");
            for short in 0..bytes.len() {
                assert!(link.put(&mut Frame::new(&mut copy[..short]), 0x86dd).is_none());
                assert!(Link::take(&mut Frame::new(&mut bytes[..short])).is_none());
            }
        }
    }

    #[test]
    fn a_third_tag_is_no_link_header() {
        let mut bytes = frame(&[0x88a8, 0x8100, 0x8100, 0x0800]);
        let link = Link::take(&mut Frame::new(&mut bytes)).unwrap();
        assert_eq!(link.ether_type(), 0x8100);
    }
}
