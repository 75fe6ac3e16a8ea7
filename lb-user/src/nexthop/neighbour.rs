//! Neighbours: the hardware addresses of the hosts on our links.
//!
//! The kernel resolves them; this file reads its table and asks it to try. It must not know routes.

use std::{collections::HashMap, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
};

use super::netlink::{RequestError, Requests};

/// Where a neighbour is: the interface's index, and its address.
pub(super) type Place = (u32, IpAddr);

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its hardware address, as long as the kernel would use it.
    pub(super) mac: Option<[u8; 6]>,
    /// Whether the kernel should be asked to (re-)validate it.
    pub(super) needs_use: bool,
}

impl Neighbour {
    /// A neighbour that the kernel has no entry for.
    pub(super) const ABSENT: Self = Self { mac: None, needs_use: true };
}

/// Every neighbour that the kernel knows.
pub(super) async fn all(requests: &Requests) -> Result<HashMap<Place, Neighbour>, RequestError> {
    let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let answers = requests.dump(question).await?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => Some((place(message)?, read(message))),
            _ => None,
        })
        .collect())
}

/// One neighbour, as the kernel knows it.
pub(super) async fn one(requests: &Requests, place: Place) -> Result<Neighbour, RequestError> {
    let question = RouteNetlinkMessage::GetNeighbour(question(place));
    match requests.one(question, 0).await {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(message))) => Ok(read(&message)),
        Ok(_) => Ok(Neighbour::ABSENT),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => {
            Ok(Neighbour::ABSENT)
        }
        Err(error) => Err(error),
    }
}

/// Tells the kernel that the neighbour is wanted, as a packet to it would: it resolves an unknown
/// one and validates a stale one.
///
/// Not for permanent entries: since Linux 5.16 this flag takes their permanence away.
pub(super) async fn request_use(requests: &Requests, place: Place) -> Result<(), RequestError> {
    let mut message = question(place);
    message.header.flags = NeighbourFlags::Use;
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    requests.one(RouteNetlinkMessage::NewNeighbour(message), flags).await.map(|_| ())
}

/// The place that a message of the kernel is about; `None` for bridge entries and their like.
pub(super) fn place(message: &NeighbourMessage) -> Option<Place> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
            Some((message.header.ifindex, (*address).into()))
        }
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((message.header.ifindex, (*address).into()))
        }
        _ => None,
    })
}

fn question((ifindex, address): Place) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let destination;
    (message.header.family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

fn read(message: &NeighbourMessage) -> Neighbour {
    let (usable, needs_use) = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => (true, false),
        NeighbourState::Stale => (true, true),
        // The kernel is asking already.
        NeighbourState::Incomplete => (false, false),
        _ => (false, true),
    };
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => address.as_slice().try_into().ok(),
        _ => None,
    });
    Neighbour { mac: mac.filter(|_| usable), needs_use }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_decide_whether_the_address_counts() {
        const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
        for (state, usable, needs_use) in [
            (NeighbourState::Reachable, true, false),
            (NeighbourState::Stale, true, true),
            (NeighbourState::Delay, true, false),
            (NeighbourState::Probe, true, false),
            (NeighbourState::Permanent, true, false),
            (NeighbourState::Noarp, true, false),
            (NeighbourState::Incomplete, false, false),
            (NeighbourState::Failed, false, true),
            (NeighbourState::None, false, true),
            (NeighbourState::Other(0x4000), false, true),
        ] {
            let mut message = NeighbourMessage::default();
            message.header.state = state;
            message.attributes = vec![NeighbourAttribute::LinkLayerAddress(MAC.to_vec())];
            let expected = Neighbour { mac: usable.then_some(MAC), needs_use };
            assert_eq!(read(&message), expected, "{state:?}");
        }
    }

    #[test]
    fn an_address_of_another_length_is_none() {
        let mut message = NeighbourMessage::default();
        message.header.state = NeighbourState::Reachable;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(vec![1, 2, 3, 4])];
        assert_eq!(read(&message).mac, None);
        assert_eq!(place(&message), None);
    }
}
