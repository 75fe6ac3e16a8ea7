//! Discovery: backends that the configuration does not name, and where they come from.
//!
//! A task per service and source ([`Follower`]) asks and reports what it heard; [`Book`] judges the answers and
//! remembers them, [`merge`] makes the configuration with the backends that are known now: both are pure. What the
//! book knows is kept on the disk by [`store`]. An answer that is empty, or that does not come, never takes a
//! backend away.
//!
//! It must not know the controller, health or the kernel's tables.

mod book;
mod dns;
mod file;
mod kubernetes;
mod merge;
mod slices;
pub mod store;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::{
    book::{Book, Entry, Said, Turn},
    merge::merge,
};
use crate::{
    config::{Config, Discovery, DiscoverySource, Offer, Protocol, Service, Tier},
    tasks::TaskSet,
};

/// A source by its service's name and itself.
pub type Key = (String, DiscoverySource);

/// The pauses after answers that did not come: from the first, doubled each time, to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A server that a source names. Sorted by its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// Its address. Port 0: the source names none.
    pub address: SocketAddr,
    /// What the source says that it does.
    pub offer: Offer,
    /// What the source calls it, where a backend may be called so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The host name that the address is of, where the source names several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its share of new connections, from 1.
    pub weight: u16,
    /// When it takes part.
    pub tier: Tier,
}

impl Found {
    /// A server with a share like any other's.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        let (offer, tier) = (Offer::Ready, Tier::Primary);
        Self { address, offer, name: None, host: None, weight: 1, tier }
    }
}

/// What a source said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The servers, in any order.
    pub found: Vec<Found>,
    /// What could not be found out, where the rest could.
    pub lacks: Option<String>,
}

/// What a task heard.
#[derive(Clone, Debug)]
pub struct News {
    /// From whom.
    pub key: Key,
    /// What; else why there is no answer.
    pub heard: Result<Answer, String>,
}

/// All that a task has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    source: DiscoverySource,
    settings: Discovery,
    /// Whether IPv4 and IPv6 addresses can be used.
    families: (bool, bool),
    protocol: Protocol,
}

impl Spec {
    fn of(service: &Service, source: &DiscoverySource, settings: &Discovery) -> Self {
        let (any, v4) = (service.forwarding.is_tunnel(), service.address.is_ipv4());
        Self {
            source: source.clone(),
            settings: settings.clone(),
            families: (any || v4, any || !v4),
            protocol: service.protocol,
        }
    }
}

/// Where a task reports to.
struct Reporter {
    key: Key,
    news: mpsc::Sender<News>,
}

impl Reporter {
    /// Reports; `false` when nobody listens any more.
    async fn tell(&self, heard: Result<Answer, String>) -> bool {
        self.news.send(News { key: self.key.clone(), heard }).await.is_ok()
    }
}

/// Asks a changing set of sources. Dropping it ends that.
pub struct Follower {
    running: TaskSet<Key, Spec>,
    news: mpsc::Sender<News>,
}

impl Follower {
    /// Asks nobody yet, and reports to `news`. Some may still be in the channel when its source is not asked any
    /// more: the receiver passes over keys that it no longer knows.
    #[must_use]
    pub fn new(news: mpsc::Sender<News>) -> Self {
        Self { running: TaskSet::new(), news }
    }

    /// Makes the sources that are asked those of a configuration, within a tokio runtime. What is unchanged goes on
    /// undisturbed; `book` is what is known of those that begin.
    pub fn follow(&mut self, config: &Config, book: &Book) {
        let wanted = config.services.iter().flat_map(|service| {
            service.discover.iter().map(|source| {
                let key = (service.name.clone(), source.clone());
                (key, Spec::of(service, source, &config.discovery))
            })
        });
        let news = &self.news;
        self.running.set(wanted, |key, spec| {
            let reporter = Reporter { key: key.clone(), news: news.clone() };
            ask_on(spec.clone(), book.found(key).to_vec(), reporter)
        });
    }
}

async fn ask_on(spec: Spec, known: Vec<Found>, reporter: Reporter) {
    match &spec.source {
        DiscoverySource::Dns { name, port } => {
            dns::follow(dns::Question::Addresses(name.clone(), *port), &spec, known, reporter)
                .await;
        }
        DiscoverySource::Srv { name } => {
            dns::follow(dns::Question::Servers(name.clone()), &spec, known, reporter).await;
        }
        DiscoverySource::File { path, port } => {
            file::follow(path, port.as_deref(), spec.protocol, reporter).await;
        }
        DiscoverySource::Kubernetes { namespace, service, port } => {
            let wanted = kubernetes::Wanted { namespace, service, port: port.as_deref() };
            kubernetes::follow(wanted, &spec, reporter).await;
        }
    }
}

/// Pauses that grow while answers do not come, up to a fifth longer or shorter, so that many edges do not ask at
/// once.
struct Pauses(Duration);

impl Pauses {
    const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}
