//! The Ethernet header (IEEE 802.3), as bytes: network-types' own has an alignment of two, which a
//! frame does not promise.

use lb_common::net::Hop;

use crate::{
    frame::{Frame, ethernet_words, put_ethernet},
    parse::MAX_TAGS,
};

/// An Ethernet header without VLAN tags.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    /// Receiver's address.
    pub destination: [u8; 6],
    /// Sender's address.
    pub source: [u8; 6],
    /// Type of the payload, in network byte order.
    pub ether_type: [u8; 2],
}

impl Ethernet {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();

    /// Whether the frame came to our interface of a hop from its neighbour. Compared by words, as both
    /// have the two addresses side by side and in this order.
    #[inline(always)]
    #[must_use]
    pub fn came_from(&self, hop: &Hop) -> bool {
        hop.addresses() == ethernet_words(self)
    }

    /// Swaps the addresses: for an answer that goes back the way the frame came.
    #[inline(always)]
    pub fn turn(&mut self) {
        let (destination, source) = (self.destination, self.source);
        put_ethernet(&mut self.destination, &source);
        put_ethernet(&mut self.source, &destination);
    }
}

/// A VLAN tag with the `EtherType` after it (IEEE 802.1Q): what stands between an Ethernet header
/// that announces it and the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// Priority, drop eligibility and VLAN number.
    pub control: [u8; 2],
    /// Type of what follows, in network byte order.
    pub ether_type: [u8; 2],
}

impl Tag {
    /// Whether a tag follows: 802.1Q, or 802.1ad's service tag.
    #[inline(always)]
    #[must_use]
    pub const fn follows(ether_type: [u8; 2]) -> bool {
        matches!(u16::from_be_bytes(ether_type), 0x8100 | 0x88a8)
    }

    #[inline(always)]
    const fn word(self) -> u32 {
        let ([a, b], [c, d]) = (self.control, self.ether_type);
        u32::from_ne_bytes([a, b, c, d])
    }

    #[inline(always)]
    const fn set_word(&mut self, word: u32) {
        let [a, b, c, d] = word.to_ne_bytes();
        self.control = [a, b];
        self.ether_type = [c, d];
    }
}

/// A frame's VLAN tags, kept while its headers move. In whole words, which the verifier wants
/// aligned on the stack.
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    /// The tags as they lie in memory.
    words: [u32; MAX_TAGS],
    /// The outer one's type, which stands in the Ethernet header.
    ether_type: u32,
    /// How many there are.
    count: u32,
}

impl Tags {
    /// Takes the tags that follow the Ethernet header.
    #[inline(always)]
    pub fn take(ethernet: &Ethernet, frame: &mut Frame<'_>) -> Option<Self> {
        let ether_type = u32::from(u16::from_ne_bytes(ethernet.ether_type));
        if !Tag::follows(ethernet.ether_type) {
            return Some(Self { words: [0; 2], ether_type, count: 0 });
        }
        let first = frame.take::<Tag>()?;
        if !Tag::follows(first.ether_type) {
            return Some(Self { words: [first.word(), 0], ether_type, count: 1 });
        }
        let second = frame.take::<Tag>()?;
        Some(Self { words: [first.word(), second.word()], ether_type, count: 2 })
    }

    /// Writes the tags after the Ethernet header, around a packet of the `EtherType` `inside`.
    #[inline(always)]
    pub fn put(
        &self,
        ethernet: &mut Ethernet,
        frame: &mut Frame<'_>,
        inside: [u8; 2],
    ) -> Option<()> {
        ethernet.ether_type = inside;
        if self.count == 0 {
            return Some(());
        }
        let [a, b, ..] = self.ether_type.to_ne_bytes();
        ethernet.ether_type = [a, b];
        let tag = frame.take::<Tag>()?;
        tag.set_word(self.words[0]);
        if self.count == 2 {
            let tag = frame.take::<Tag>()?;
            tag.set_word(self.words[1]);
            tag.ether_type = inside;
        } else {
            tag.ether_type = inside;
        }
        Some(())
    }
}
