//! Keeps the next hop of every target fresh, and tells when one changes.
//!
//! Events say when to look; what is reported is always what the kernel answers when asked. A
//! refresh of everything at intervals covers what no event tells (a redirect, a lost event).

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::IpAddr,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch as channel},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    Moved, NextHop, Unresolved, Update,
    link::{self, Link},
    neighbour::{self, Neighbour, Place},
    netlink::{RequestError, Requests},
    route::{self, Route},
    watch::{Stale, Watch},
};

/// Events come in bursts: an interface that goes up brings links, addresses and routes.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Everything is asked again this often, events or not.
const REFRESH: Duration = Duration::from_secs(10);
/// A neighbour that does not answer is asked again this often.
const NUDGE: Duration = Duration::from_secs(1);
/// With more targets than this in question, everything is asked again at once.
const MANY: usize = 64;
/// How many neighbours' addresses are remembered.
const MOST_NEIGHBOURS: usize = 1 << 16;
/// A refresh that took long is not repeated before this many times its duration.
const REST: u32 = 4;
/// How long to wait before netlink is opened again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Tells the resolver's task which targets matter. Dropping it ends the task.
pub struct Resolver {
    targets: channel::Sender<BTreeSet<IpAddr>>,
}

impl Resolver {
    /// Starts resolving, within a tokio runtime and in the network namespace of its threads.
    ///
    /// Updates come through `updates`. The task ends when the resolver or the receiver of updates
    /// is dropped; when netlink fails it tries again, and the last updates stay true as far as known.
    /// Of neighbours that change their hardware address, targets or not, `moves` is told, as long as it has
    /// room.
    #[must_use]
    pub fn start(
        updates: mpsc::Sender<Update>,
        moves: mpsc::Sender<Moved>,
    ) -> (Self, JoinHandle<()>) {
        let (targets, receiver) = channel::channel(BTreeSet::new());
        let task = Task {
            targets: receiver,
            updates,
            moves,
            macs: HashMap::new(),
            known: HashMap::new(),
            links: HashMap::new(),
            neighbours: HashMap::new(),
            nudged: HashMap::new(),
        };
        (Self { targets }, tokio::spawn(task.run()))
    }

    /// Replaces the set of targets. Each new one gets an update soon, resolved or not; one that
    /// left gets no more, save those already in the channel.
    pub fn set_targets(&self, targets: BTreeSet<IpAddr>) {
        self.targets.send_if_modified(|current| {
            let changed = *current != targets;
            *current = targets;
            changed
        });
    }
}

struct Task {
    targets: channel::Receiver<BTreeSet<IpAddr>>,
    updates: mpsc::Sender<Update>,
    moves: mpsc::Sender<Moved>,
    /// The hardware address that each neighbour had last.
    macs: HashMap<Place, [u8; 6]>,
    known: HashMap<IpAddr, Known>,
    links: HashMap<u32, Link>,
    neighbours: HashMap<Place, Neighbour>,
    /// When the kernel was last asked to validate a neighbour.
    nudged: HashMap<Place, Instant>,
}

/// What was last found for a target.
struct Known {
    /// The neighbour that its packets go to.
    place: Option<Place>,
    /// What was last reported.
    next_hop: Result<NextHop, Unresolved>,
}

/// Why the work over one pair of sockets ended.
enum End {
    /// Nobody wants updates any more.
    Unwanted,
    /// The sockets failed.
    Failed(String),
}

impl From<RequestError> for End {
    fn from(error: RequestError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        loop {
            let opened = Instant::now();
            let cause = match open() {
                Ok((requests, watch)) => match self.serve(&requests, &watch).await {
                    End::Unwanted => return,
                    End::Failed(cause) => cause,
                },
                Err(error) => format!("cannot open a netlink socket: {error}"),
            };
            if opened.elapsed() > BACKOFF.1 {
                backoff = BACKOFF.0;
            }
            warn!(%cause, ?backoff, "next hops: netlink failed; known ones stay, trying again");
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.unwanted() => return,
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Waits until there is nobody left to resolve for.
    async fn unwanted(&self) {
        let mut targets = self.targets.clone();
        tokio::select! {
            () = self.updates.closed() => {}
            _ = targets.wait_for(|_| false) => {}
        }
    }

    async fn serve(&mut self, requests: &Requests, watch: &Watch) -> End {
        let mut next_refresh = Instant::now();
        let mut next_nudge = None;
        // Set when everything is stale but the last refresh was too costly to follow at once.
        let mut not_before = Instant::now();
        loop {
            tokio::select! {
                changed = self.targets.changed() => if changed.is_err() {
                    return End::Unwanted;
                },
                () = self.updates.closed() => return End::Unwanted,
                () = watch.changed() => sleep(DEBOUNCE).await,
                () = sleep_until(next_refresh) => {}
                () = sleep_until(next_nudge.unwrap_or(next_refresh)) => {}
            }
            let Some(stale) = watch.take() else {
                return End::Failed("the event socket closed".to_owned());
            };
            let now = Instant::now();
            if stale.all {
                next_refresh = next_refresh.min(now.max(not_before));
            }
            let nudge_due = next_nudge.is_some_and(|due| due <= now);
            let work = self.stale_targets(&stale, nudge_due);
            let everything = next_refresh <= now || work.len() > MANY;
            let done = if everything {
                self.refresh(requests).await
            } else {
                match self.note_changed(requests, &stale).await {
                    Ok(()) => self.resolve_each(requests, &work).await,
                    Err(end) => Err(end),
                }
            };
            if let Err(end) = done {
                return end;
            }
            let took = now.elapsed();
            if everything {
                not_before = Instant::now() + took * REST;
                next_refresh = Instant::now() + REFRESH.max(took * REST);
            }
            if everything || nudge_due || next_nudge.is_none() {
                next_nudge = self.unanswered().then(|| Instant::now() + NUDGE.max(took * REST));
            }
        }
    }

    /// The targets to ask about again: new ones, those whose neighbour changed, and, when it is
    /// time, those whose neighbour does not answer.
    fn stale_targets(&mut self, stale: &Stale, nudge_due: bool) -> Vec<IpAddr> {
        for place in &stale.neighbours {
            self.neighbours.remove(place);
        }
        let targets = self.targets.borrow_and_update();
        self.known.retain(|target, _| targets.contains(target));
        targets
            .iter()
            .filter(|target| {
                self.known.get(target).is_none_or(|known| {
                    known.place.is_some_and(|place| stale.neighbours.contains(&place))
                        || (nudge_due && known.unanswered())
                })
            })
            .copied()
            .collect()
    }

    fn unanswered(&self) -> bool {
        self.known.values().any(Known::unanswered)
    }

    /// Asks everything again: links and neighbours in one go each, then every route.
    async fn refresh(&mut self, requests: &Requests) -> Result<(), End> {
        self.links = link::all(requests).await?;
        self.neighbours = neighbour::all(requests).await?;
        let known = self.neighbours.iter();
        let macs: Vec<_> = known.filter_map(|(place, it)| Some((*place, it.mac?))).collect();
        for (place, mac) in macs {
            self.note_mac(requests, place, mac).await?;
        }
        let now = Instant::now();
        self.nudged.retain(|_, at| now.duration_since(*at) < NUDGE);
        let targets: Vec<IpAddr> = self.targets.borrow().iter().copied().collect();
        for target in targets {
            self.resolve(requests, target).await?;
        }
        Ok(())
    }

    /// Looks at the neighbours that something happened to.
    async fn note_changed(&mut self, requests: &Requests, stale: &Stale) -> Result<(), End> {
        for place in &stale.neighbours {
            let neighbour = match neighbour::one(requests, *place).await {
                Ok(neighbour) => neighbour,
                Err(RequestError::Closed) => return Err(RequestError::Closed.into()),
                Err(_) => continue,
            };
            if let Some(mac) = neighbour.mac {
                self.note_mac(requests, *place, mac).await?;
            }
        }
        Ok(())
    }

    /// Notes a neighbour's hardware address, and tells where it had another one.
    async fn note_mac(
        &mut self,
        requests: &Requests,
        place: Place,
        mac: [u8; 6],
    ) -> Result<(), End> {
        if self.macs.len() >= MOST_NEIGHBOURS && !self.macs.contains_key(&place) {
            self.macs.clear();
        }
        let Some(from) = self.macs.insert(place, mac).filter(|from| *from != mac) else {
            return Ok(());
        };
        let interface = match self.carrier(requests, place.0).await {
            Ok(interface) => interface,
            Err(RequestError::Closed) => return Err(RequestError::Closed.into()),
            Err(_) => place.0,
        };
        // Where there is no room, the neighbour's next packet shows the way.
        let _ = self.moves.try_send(Moved { interface, from, to: mac });
        Ok(())
    }

    /// Asks about these targets alone.
    async fn resolve_each(&mut self, requests: &Requests, work: &[IpAddr]) -> Result<(), End> {
        for &target in work {
            // A neighbour that has not answered may have by now.
            if let Some(place) = self.known.get(&target).and_then(|known| known.place) {
                self.neighbours.remove(&place);
            }
        }
        for &target in work {
            self.resolve(requests, target).await?;
        }
        Ok(())
    }

    async fn resolve(&mut self, requests: &Requests, target: IpAddr) -> Result<(), End> {
        let (place, next_hop) = match route::look_up(requests, target).await? {
            Ok(route) => {
                let next_hop = self.complete(requests, &route).await?;
                (Some((route.ifindex, route.gateway)), next_hop)
            }
            Err(unresolved) => (None, Err(unresolved)),
        };
        let known = Known { place, next_hop: next_hop.clone() };
        let before = self.known.insert(target, known);
        if before.is_some_and(|before| before.next_hop == next_hop) {
            return Ok(());
        }
        match &next_hop {
            Ok(next_hop) => debug!(%target, %next_hop, "next hop changed"),
            Err(unresolved) => debug!(%target, %unresolved, "no next hop"),
        }
        self.updates.send(Update { target, next_hop }).await.map_err(|_| End::Unwanted)
    }

    /// Adds the hardware addresses to a route.
    async fn complete(
        &mut self,
        requests: &Requests,
        route: &Route,
    ) -> Result<Result<NextHop, Unresolved>, End> {
        let link = match self.link(requests, route.ifindex).await {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(Err(Unresolved::InterfaceGone(route.ifindex))),
            Err(error) => return unusable("interface", &error),
        };
        let source_mac = match link.source_mac() {
            Ok(mac) => mac,
            Err(unresolved) => return Ok(Err(unresolved)),
        };
        let place = (route.ifindex, route.gateway);
        let neighbour = match self.neighbour(requests, place).await {
            Ok(neighbour) => neighbour,
            Err(error) => return unusable("neighbour", &error),
        };
        if neighbour.needs_use {
            self.nudge(requests, place).await;
        }
        let ifindex = match self.carrier(requests, route.ifindex).await {
            Ok(ifindex) => ifindex,
            Err(error) => return unusable("interface", &error),
        };
        Ok(match neighbour.mac {
            Some(destination_mac) => Ok(NextHop {
                ifindex,
                source_mac,
                destination_mac,
                gateway: route.gateway,
                preferred_source: route.preferred_source,
                mtu: route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
            }),
            None => Err(Unresolved::NoNeighbour {
                gateway: route.gateway,
                interface: link.name.clone(),
            }),
        })
    }

    /// An interface from memory, or from the kernel when it is newer than the last refresh.
    async fn link(
        &mut self,
        requests: &Requests,
        index: u32,
    ) -> Result<Option<Link>, RequestError> {
        if !self.links.contains_key(&index)
            && let Some(link) = link::one(requests, index).await?
        {
            self.links.insert(index, link);
        }
        Ok(self.links.get(&index).cloned())
    }

    /// The interface that frames leave by: that below the VLANs, of which there are two at the most.
    async fn carrier(&mut self, requests: &Requests, index: u32) -> Result<u32, RequestError> {
        let mut carrier = index;
        for _ in 0..2 {
            match self.link(requests, carrier).await?.and_then(|link| link.carrier) {
                Some(below) => carrier = below,
                None => break,
            }
        }
        Ok(carrier)
    }

    async fn neighbour(
        &mut self,
        requests: &Requests,
        place: Place,
    ) -> Result<Neighbour, RequestError> {
        if let Some(neighbour) = self.neighbours.get(&place) {
            return Ok(*neighbour);
        }
        let neighbour = neighbour::one(requests, place).await?;
        self.neighbours.insert(place, neighbour);
        Ok(neighbour)
    }

    /// Asks the kernel to find or validate a neighbour, at most once a second each: a kernel that
    /// gives up at once would otherwise answer every nudge with an event.
    async fn nudge(&mut self, requests: &Requests, place: Place) {
        let now = Instant::now();
        // A little less than the period, so that a timer that fires on time is not too early.
        let rest = NUDGE.mul_f64(0.9);
        if self.nudged.get(&place).is_some_and(|at| now.duration_since(*at) < rest) {
            return;
        }
        self.nudged.insert(place, now);
        if let Err(error) = neighbour::request_use(requests, place).await {
            debug!(ifindex = place.0, neighbour = %place.1, %error, "cannot ask for a neighbour");
        }
    }
}

impl Known {
    fn unanswered(&self) -> bool {
        matches!(self.next_hop, Err(Unresolved::NoNeighbour { .. }))
    }
}

/// A question about one target failed: that target's fault, unless the socket is gone.
fn unusable(what: &'static str, error: &RequestError) -> Result<Result<NextHop, Unresolved>, End> {
    match error {
        RequestError::Closed => Err(End::Failed(error.to_string())),
        RequestError::Refused(_) | RequestError::Unanswered => {
            Ok(Err(Unresolved::Netlink { what, error: error.to_string() }))
        }
    }
}

fn open() -> io::Result<(Requests, Watch)> {
    // The subscription first: what changes after the first question is then told.
    let watch = Watch::open()?;
    Ok((Requests::open()?, watch))
}
