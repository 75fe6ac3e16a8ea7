//! Routes: which way the kernel would send a packet to a target.
//!
//! The kernel's own decision is asked for (policy rules, multipath and preferred sources
//! included); nothing here walks a routing table. It must not know links or neighbours.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
};

use super::{
    Unresolved,
    netlink::{RequestError, Requests},
};

/// The first step towards a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The interface.
    pub(super) ifindex: u32,
    /// The neighbour to hand the packet to: a gateway, or the target itself.
    pub(super) gateway: IpAddr,
    /// The address that this host would send from.
    pub(super) preferred_source: Option<IpAddr>,
    /// Its own MTU, where it has one: set by hand, or learnt of the path (RFC 1191).
    pub(super) mtu: Option<u32>,
}

/// Asks the kernel for the route to `target`.
///
/// The outer error is one of the socket, the inner one of the target.
pub(super) async fn look_up(
    requests: &Requests,
    target: IpAddr,
) -> Result<Result<Route, Unresolved>, RequestError> {
    let mut question = RouteMessage::default();
    (question.header.address_family, question.header.destination_prefix_length) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question.attributes.push(RouteAttribute::Destination(target.into()));
    let unknown = |error: String| Err(Unresolved::Netlink { what: "route", error });
    match requests.one(RouteNetlinkMessage::GetRoute(question), 0).await {
        Ok(Some(RouteNetlinkMessage::NewRoute(answer))) => Ok(read(&answer, target)),
        Ok(_) => Ok(unknown("an answer of another kind".to_owned())),
        Err(RequestError::Closed) => Err(RequestError::Closed),
        Err(RequestError::Refused(error)) => Ok(Err(Unresolved::NoRoute(error.to_string()))),
        Err(error @ RequestError::Unanswered) => Ok(unknown(error.to_string())),
    }
}

fn read(answer: &RouteMessage, target: IpAddr) -> Result<Route, Unresolved> {
    match answer.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(Unresolved::Local),
        RouteType::Unreachable => return Err(Unresolved::NoRoute("unreachable".to_owned())),
        kind => return Err(Unresolved::NotUnicast(format!("{kind:?}").to_lowercase())),
    }
    let mut ifindex = None;
    let mut gateway = target;
    let mut preferred_source = None;
    let mut mtu = None;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address).unwrap_or(gateway),
            RouteAttribute::PrefSource(address) => preferred_source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu).filter(|mtu| *mtu != 0),
                    _ => None,
                });
            }
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = (*address).into(),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = (*address).into(),
            RouteAttribute::EncapType(kind) => {
                return Err(Unresolved::Encapsulated(format!("{kind:?}").to_lowercase()));
            }
            _ => {}
        }
    }
    let ifindex = ifindex.filter(|index| *index != 0).ok_or_else(|| Unresolved::Netlink {
        what: "route",
        error: "the route names no interface".to_owned(),
    })?;
    Ok(Route { ifindex, gateway, preferred_source, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn answers_are_read_and_odd_ones_refused() {
        let target: IpAddr = "10.0.0.9".parse().unwrap();
        let via: IpAddr = "fe80::1".parse().unwrap();
        let route = |gateway| Ok(Route { ifindex: 7, gateway, preferred_source: None, mtu: None });
        let unicast = |attributes| answer(RouteType::Unicast, attributes);
        for (name, message, expected) in [
            ("on the link", unicast(vec![RouteAttribute::Oif(7)]), route(target)),
            (
                "by a gateway of the other family",
                unicast(vec![RouteAttribute::Via(via.into()), RouteAttribute::Oif(7)]),
                route(via),
            ),
            ("this host", answer(RouteType::Local, vec![]), Err(Unresolved::Local)),
            (
                "turned away",
                answer(RouteType::BlackHole, vec![]),
                Err(Unresolved::NotUnicast("blackhole".to_owned())),
            ),
        ] {
            assert_eq!(read(&message, target), expected, "{name}");
        }
        for odd in [
            unicast(vec![]),
            unicast(vec![RouteAttribute::Oif(0)]),
            unicast(vec![RouteAttribute::Gateway(RouteAddress::Other(vec![1]))]),
        ] {
            assert!(matches!(read(&odd, target), Err(Unresolved::Netlink { .. })), "{odd:?}");
        }
    }
}
