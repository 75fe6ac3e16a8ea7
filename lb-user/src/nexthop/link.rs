//! Interfaces: whether they can send Ethernet frames, and from which address.
//!
//! It must not know routes or neighbours.

use std::collections::HashMap;

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
};

use super::{
    Unresolved,
    netlink::{RequestError, Requests},
};

/// What a next hop needs to know of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    loopback: bool,
    up: bool,
    mac: Option<[u8; 6]>,
    pub(super) mtu: u32,
    /// The interface that a VLAN's is on: frames leave by that one, and keep the tags they have.
    pub(super) carrier: Option<u32>,
}

impl Link {
    /// The address that frames leave from, or why none can.
    pub(super) fn source_mac(&self) -> Result<[u8; 6], Unresolved> {
        if self.loopback {
            return Err(Unresolved::Local);
        }
        if !self.up {
            return Err(Unresolved::InterfaceDown(self.name.clone()));
        }
        self.mac.ok_or_else(|| Unresolved::NotEthernet(self.name.clone()))
    }
}

/// Every interface, by index.
pub(super) async fn all(requests: &Requests) -> Result<HashMap<u32, Link>, RequestError> {
    let answers = requests.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
    Ok(answers.into_iter().filter_map(read).collect())
}

/// One interface; `None` when it does not exist.
pub(super) async fn one(requests: &Requests, index: u32) -> Result<Option<Link>, RequestError> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    match requests.one(RouteNetlinkMessage::GetLink(question), 0).await {
        Ok(answer) => Ok(answer.and_then(read).map(|(_, link)| link)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(answer: RouteNetlinkMessage) -> Option<(u32, Link)> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let index = message.header.index;
    let mut link = Link {
        name: index.to_string(),
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        carrier: None,
    };
    let (mut below, mut vlan) = (None, false);
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => below = Some(index),
            LinkAttribute::LinkInfo(info) => {
                vlan = info.contains(&LinkInfo::Kind(InfoKind::Vlan));
            }
            LinkAttribute::Address(address) if ethernet => link.mac = address.try_into().ok(),
            _ => {}
        }
    }
    link.carrier = below.filter(|_| vlan);
    Some((index, link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_top_of(below: u32, kind: InfoKind) -> Link {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName("eth0.100".to_owned()),
            LinkAttribute::Link(below),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
        ];
        let (index, link) = read(RouteNetlinkMessage::NewLink(message)).unwrap();
        assert_eq!((index, link.name.as_str()), (7, "eth0.100"));
        link
    }

    #[test]
    fn a_vlans_frames_leave_by_the_interface_below() {
        assert_eq!(on_top_of(3, InfoKind::Vlan).carrier, Some(3));
        // A veth's other end is named alike, and is not below it.
        assert_eq!(on_top_of(3, InfoKind::Veth).carrier, None);
    }
}
