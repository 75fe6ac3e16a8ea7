//! Events of the kernel, collapsed into what has to be asked again.
//!
//! An event is only a hint: its content is not used, so that a lost or odd one can do no harm, and
//! a storm of them takes no more memory than the set of neighbours it is about. It must not know
//! targets.

use std::{
    collections::HashSet,
    io,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use rtnetlink::{
    MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload,
    packet_route::RouteNetlinkMessage, proto::sys::AsyncSocket,
};
use tokio::{sync::Notify, task::AbortHandle};

use super::neighbour::{self, Place};

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];
/// Room for a burst of route changes. The kernel caps it at `net.core.rmem_max`.
const RECEIVE_BUFFER: u32 = 1 << 20;
/// With more changed neighbours than this, asking for all of them is the cheaper question.
const MANY: usize = 1024;

/// What has to be asked again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    /// Everything.
    pub(super) all: bool,
    /// These neighbours.
    pub(super) neighbours: HashSet<Place>,
}

impl Stale {
    fn is_empty(&self) -> bool {
        !self.all && self.neighbours.is_empty()
    }
}

/// A subscription to the kernel's events. Dropping it ends it.
pub(super) struct Watch {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

#[derive(Default)]
struct Shared {
    stale: Mutex<Noted>,
    changed: Notify,
}

#[derive(Default)]
struct Noted {
    stale: Stale,
    closed: bool,
}

impl Watch {
    /// Subscribes in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, _handle, mut events) = new_multicast_connection(&GROUPS)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
        let shared = Arc::new(Shared::default());
        let noted = Arc::clone(&shared);
        let reader = tokio::spawn(async move {
            while let Some((message, _)) = events.next().await {
                noted.note(|stale| note(stale, &message.payload));
            }
            noted.lock().closed = true;
            noted.changed.notify_one();
        });
        let tasks = [tokio::spawn(connection).abort_handle(), reader.abort_handle()];
        Ok(Self { shared, tasks })
    }

    /// Waits until there is something to take, or the subscription has ended.
    pub(super) async fn changed(&self) {
        loop {
            let changed = self.shared.changed.notified();
            {
                let noted = self.shared.lock();
                if noted.closed || !noted.stale.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Takes what has come so far; `None` when the subscription has ended.
    pub(super) fn take(&self) -> Option<Stale> {
        let mut noted = self.shared.lock();
        (!noted.closed).then(|| take(&mut noted.stale))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn note(&self, act: impl FnOnce(&mut Stale)) {
        act(&mut self.lock().stale);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(stale: &mut Stale, payload: &NetlinkPayload<RouteNetlinkMessage>) {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message),
        ) => {
            stale.neighbours.extend(neighbour::place(message));
        }
        NetlinkPayload::Noop | NetlinkPayload::Done(_) => {}
        // Links, addresses, routes and rules can change any target's way. So can what was lost
        // (an overrun) or is not known.
        _ => stale.all = true,
    }
    if stale.neighbours.len() > MANY {
        stale.all = true;
    }
    if stale.all {
        stale.neighbours.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use rtnetlink::packet_route::{
        link::LinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    };

    use super::*;

    fn neighbour(number: u32) -> NetlinkPayload<RouteNetlinkMessage> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 3;
        let address = NeighbourAddress::Inet(Ipv4Addr::from(number));
        message.attributes.push(NeighbourAttribute::Destination(address));
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message))
    }

    #[test]
    fn neighbours_are_told_apart_and_the_rest_makes_all_stale() {
        let mut stale = Stale::default();
        note(&mut stale, &neighbour(1));
        note(&mut stale, &neighbour(1));
        note(&mut stale, &NetlinkPayload::Noop);
        let place = (3, IpAddr::V4(Ipv4Addr::from(1)));
        assert_eq!(stale, Stale { all: false, neighbours: HashSet::from([place]) });

        let link = RouteNetlinkMessage::NewLink(LinkMessage::default());
        for odd in [NetlinkPayload::InnerMessage(link), NetlinkPayload::Overrun(vec![])] {
            let mut stale = Stale::default();
            note(&mut stale, &neighbour(1));
            note(&mut stale, &odd);
            assert_eq!(stale, Stale { all: true, neighbours: HashSet::new() });
        }
    }

    #[test]
    fn a_storm_takes_bounded_memory() {
        let mut stale = Stale::default();
        for number in 0..100_000 {
            note(&mut stale, &neighbour(number));
            assert!(stale.neighbours.len() <= MANY);
        }
        assert!(stale.all);
    }

    #[tokio::test]
    async fn a_socket_that_closes_is_told() {
        let watch = Watch::open().unwrap();
        watch.tasks[0].abort();
        watch.changed().await;
        assert_eq!(watch.take(), None);
    }
}
