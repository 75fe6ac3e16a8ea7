//! The long road: VLAN tags, IPv4 options, IPv6 extension headers and fragments are walked until the
//! transport header stands in front.

use lb_common::verdict::Verdict;

use crate::{
    ethernet::{Ethernet, Tag},
    family::{Family, Network},
    frame::Frame,
};

/// VLAN tags that are walked (IEEE 802.1Q, 802.1ad).
pub const MAX_TAGS: usize = 2;

/// IPv6 extension headers that are walked: one of each kind, and the one that may stand twice
/// (RFC 8200, section 4.1).
pub const MAX_EXTENSIONS: usize = 6;

/// Which part of a packet stands in a frame. A plain value and no option of one: the verifier wants
/// every word initialised that the compiler keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The packet's identification, as it stands in the header; IPv4 has 16 bits of it. Zero for a
    /// whole packet.
    pub identification: u32,
    part: u32,
}

impl Fragment {
    const FIRST: u32 = 1;
    const LATER: u32 = 2;

    /// The first fragment of a packet: it has the transport header.
    #[inline(always)]
    #[must_use]
    pub const fn first(identification: u32) -> Self {
        Self { identification, part: Self::FIRST }
    }

    /// Another fragment.
    #[inline(always)]
    #[must_use]
    pub const fn later(identification: u32) -> Self {
        Self { identification, part: Self::LATER }
    }

    /// Whether it is the whole packet, and no fragment.
    #[inline(always)]
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.part == 0
    }

    /// Whether it is the first of several.
    #[inline(always)]
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.part == Self::FIRST
    }

    /// Whether it is one after the first.
    #[inline(always)]
    #[must_use]
    pub const fn is_later(self) -> bool {
        self.part == Self::LATER
    }
}

/// The layers below the transport header.
pub struct Layers<'a, F: Family> {
    /// Ethernet header.
    pub ethernet: &'a mut Ethernet,
    /// IP header.
    pub header: &'a mut F::Header,
    /// What it and the headers after it say.
    pub network: Network,
    /// Which part of the packet it is.
    pub fragment: Fragment,
    /// Bytes of the VLAN tags.
    pub tags: u32,
}

/// What a walk found, in plain numbers. The stages after it read them from a table: so the verifier
/// follows the walk's many ways once, and not each of them through all that comes after.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// What the IP header and those after it say.
    pub network: Network,
    /// Which part of the packet it is.
    pub fragment: Fragment,
    /// Bytes of the VLAN tags.
    tags: u32,
}

impl<'a, F: Family> Layers<'a, F> {
    /// What the walk found.
    #[inline(always)]
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline { network: self.network, fragment: self.fragment, tags: self.tags }
    }

    /// The layers that an earlier walk over the same frame found.
    #[inline(always)]
    pub fn resume(frame: &mut Frame<'a>, outline: &Outline) -> Option<Self> {
        let Outline { network, fragment, tags } = *outline;
        let ethernet = frame.take::<Ethernet>()?;
        frame.skip(tags as usize)?;
        let header = frame.take::<F::Header>()?;
        // What the IP packet has beside its header and its payload stands between them.
        let headers = network.length.checked_sub(network.payload)? as usize;
        // Masked, which changes nothing in a frame of one page: the compiler checks the bound on a
        // copy, less a constant, and verifiers before Linux 6.11 do not carry that over.
        frame.skip(headers.checked_sub(size_of::<F::Header>())? & 0xfff)?;
        Some(Self { ethernet, header, network, fragment, tags })
    }
}

/// Walks to the transport header.
///
/// # Errors
///
/// The verdict for a packet that is not IP or not ours by `is_ours`, or that contradicts itself. A
/// drop is for a service's packets only.
#[inline(always)]
pub fn layers<'a, F: Family>(
    frame: &mut Frame<'a>,
    is_ours: impl FnOnce(&F::Header) -> bool,
) -> Result<Layers<'a, F>, Verdict> {
    let ethernet = frame.take::<Ethernet>().ok_or(Verdict::PASS_NOT_IP)?;
    let mut ether_type = ethernet.ether_type;
    let mut tags = 0;
    for _ in 0..MAX_TAGS {
        if !Tag::follows(ether_type) {
            break;
        }
        ether_type = frame.take::<Tag>().ok_or(Verdict::PASS_NOT_IP)?.ether_type;
        tags += 4;
    }
    if u16::from_be_bytes(ether_type) != F::ETHER_TYPE {
        return Err(Verdict::PASS_NOT_IP);
    }
    let header = frame.take::<F::Header>().ok_or(Verdict::PASS_NOT_IP)?;
    if !is_ours(header) {
        return Err(Verdict::PASS_NOT_OURS);
    }
    let (network, fragment) = F::walk(header, frame)?;
    Ok(Layers { ethernet, header, network, fragment, tags })
}
