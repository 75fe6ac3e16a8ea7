//! From a frame to a packet: its headers taken once, each checked, in a small value that later
//! stages work with.
//!
//! There are two roads to it. [`plain`] takes what nearly all packets are: no VLAN tag, no IP
//! options, no fragment, TCP or UDP; everything stands at a constant offset. [`layers`] takes the
//! rest.

mod transport;
mod walk;

use lb_common::{
    connection::Flow,
    net::{TCP, UDP},
    verdict::Verdict,
};

pub use self::{
    transport::{Flags, Note, Transport},
    walk::{Fragment, Layers, MAX_EXTENSIONS, MAX_TAGS, Outline, layers},
};
use crate::{
    ethernet::Ethernet,
    family::{Family, Network},
    frame::Frame,
};

/// A packet's headers.
pub struct Packet<'a, F: Family> {
    /// Ethernet header. Between it and the IP header there may be VLAN tags.
    pub ethernet: &'a mut Ethernet,
    /// IP header.
    pub header: &'a mut F::Header,
    /// What it says.
    pub network: Network,
    /// Transport header; what of it a fragment after the first has.
    pub transport: Transport<'a>,
}

impl<F: Family> Packet<'_, F> {
    /// The packet's flow.
    #[inline(always)]
    #[must_use]
    pub fn flow(&self) -> Flow<F::Address> {
        Flow {
            source: F::source(self.header),
            destination: F::destination(self.header),
            ports: self.transport.ports(),
            protocol: u32::from(self.network.protocol),
        }
    }
}

/// Takes a packet that is plain: the rest of a frame whose Ethernet header was taken. `is_ours` tells by
/// the addresses whether it concerns us at all.
///
/// # Errors
///
/// `Some` verdict for a packet that is not IP or not ours; `None` where the packet has to be
/// walked, which also finds out what is wrong with it.
#[inline(always)]
pub fn plain<'a, F: Family>(
    ethernet: &'a mut Ethernet,
    frame: &mut Frame<'a>,
    is_ours: impl FnOnce(&F::Header) -> bool,
) -> Result<Packet<'a, F>, Option<Verdict>> {
    // VLAN tags are walked.
    if u16::from_be_bytes(ethernet.ether_type) != F::ETHER_TYPE {
        return Err(None);
    }
    let header = frame.take::<F::Header>().ok_or(Some(Verdict::PASS_NOT_IP))?;
    if !is_ours(header) {
        return Err(Some(Verdict::PASS_NOT_OURS));
    }
    let network = F::plain(header, frame.remaining()).ok_or(None)?;
    let transport = match network.protocol {
        TCP | UDP => Transport::parse(frame, &network, false).map_err(|_| None)?,
        _ => return Err(None),
    };
    Ok(Packet { ethernet, header, network, transport })
}
