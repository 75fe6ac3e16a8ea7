//! What is known of every backend beside the configuration: what people decided, what probes and the
//! kernel see, and how far it is on its way back.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use super::{passive::Watch, probes::BackendKey, ramp::Ramps};
use crate::{
    admin::{AdminState, Exceptions},
    config::{Backend, Config, Offer, Service},
    health::{AgentReport, AgentState, Health, Wants},
    plan::Standing,
};

/// A wall clock that follows the monotonic one since it was made: what shall last half an hour does,
/// however the host's clock is set meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: SystemTime,
    since: Instant,
}

impl Clock {
    /// A clock that is right now.
    pub fn new() -> Self {
        Self { began: SystemTime::now(), since: Instant::now() }
    }

    /// What the time was `before` now, in seconds since 1970.
    pub fn since_epoch(&self, before: Duration) -> f64 {
        let then = self.now().checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH);
        then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// The time.
    pub fn now(&self) -> SystemTime {
        self.began + self.since.elapsed()
    }
}

/// What is known of the backends.
#[derive(Debug, Default)]
pub struct Condition {
    /// What people decided.
    pub exceptions: Exceptions,
    /// What probes see of those that are probed.
    pub health: HashMap<BackendKey, Health>,
    /// What their agents say.
    pub agents: HashMap<BackendKey, AgentState>,
    /// What the kernel sees of their connections.
    pub watch: Watch,
    /// Who is on its way back.
    pub ramps: Ramps,
    /// When their health, or what people decided, changed in this daemon's life.
    pub changed: HashMap<BackendKey, Instant>,
}

/// What a backend does, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It gets its share of new connections.
    Active,
    /// It gets a part of its share, in percent, which grows.
    Warming(u8),
    /// It gets new connections though it is not up, because nobody is.
    FailOpen,
    /// It waits for primaries to fail.
    Standby,
    /// People let it finish.
    Drain,
    /// People took it out.
    Maintenance,
    /// Its connections failed.
    Ejected,
    /// Its probes failed, or have not passed yet, or no way leads to it.
    Out,
}

impl Doing {
    /// How it is called.
    pub fn name(self) -> String {
        match self {
            Self::Active => "active".to_owned(),
            Self::Warming(percent) => format!("warming {percent}%"),
            Self::FailOpen => "fail-open".to_owned(),
            Self::Standby => "standby".to_owned(),
            Self::Drain => "drain".to_owned(),
            Self::Maintenance => "maintenance".to_owned(),
            Self::Ejected => "ejected".to_owned(),
            Self::Out => "out".to_owned(),
        }
    }
}

/// The key of a service's backend.
pub fn key(service: &Service, backend: &Backend) -> BackendKey {
    (service.name.clone(), backend.name.clone())
}

/// What its source says that a backend does; one that the configuration names is let take part.
pub fn offer(backend: &Backend) -> Offer {
    backend.origin.as_ref().map_or(Offer::Ready, |origin| origin.offer)
}

impl Condition {
    /// What probes see of a backend; one that is not probed counts as up.
    pub fn health(&self, service: &Service, backend: &Backend) -> Health {
        let probed = service.health.timing().is_some();
        let unseen = if probed { Health::Unknown } else { Health::Up };
        self.health.get(&key(service, backend)).copied().unwrap_or(unseen)
    }

    /// What the plan has to know of a backend.
    pub fn standing(&self, service: &Service, backend: &Backend, now: Instant) -> Standing {
        let key = key(service, backend);
        let agent = self.agent(&key);
        let wants = agent.map_or(Wants::Ready, |report| report.wants);
        let ramp = self.ramps.percent(&key, service.availability.slow_start, now);
        let asked = agent.and_then(|report| report.weight_percent).unwrap_or(100);
        // One hundredth is the least that either can ask for.
        let percent = (u16::from(ramp) * u16::from(asked) / 100).clamp(1, 100);
        let health = self.health(service, backend);
        let offer = offer(backend);
        Standing {
            admitted: self.exceptions.state(&key) == AdminState::Ready
                && offer != Offer::Draining
                && !matches!(wants, Wants::Drain | Wants::Maintenance),
            awaited: health == Health::Unknown && offer != Offer::Out,
            healthy: health == Health::Up
                && offer != Offer::Out
                && wants != Wants::Down
                && !self.watch.is_ejected(&key, now),
            percent: u8::try_from(percent).unwrap_or(100),
        }
    }

    /// What a backend's agent said last, where that still counts.
    fn agent(&self, key: &BackendKey) -> Option<&AgentReport> {
        self.agents.get(key)?.report.as_ref()
    }

    /// Notes that a backend's health, or what people decided of it, changes.
    pub fn note_change(&mut self, key: &BackendKey) {
        self.changed.insert(key.clone(), Instant::now());
    }

    /// When either changed last; `None`: not in this daemon's life.
    pub fn changed(&self, key: &BackendKey) -> Option<Instant> {
        self.changed.get(key).copied()
    }

    /// The standings of all backends of a configuration.
    pub fn standings(&self, config: &Config, now: Instant) -> HashMap<BackendKey, Standing> {
        let services = config.services.iter();
        services
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, backend)| (key(service, backend), self.standing(service, backend, now)))
            .collect()
    }

    /// What a backend does; `active`: it gets new connections.
    pub fn doing(&self, service: &Service, backend: &Backend, active: bool, now: Instant) -> Doing {
        let standing = self.standing(service, backend, now);
        let over = service.availability.slow_start;
        let ramp = self.ramps.percent(&key(service, backend), over, now);
        match self.exceptions.state(&key(service, backend)) {
            AdminState::Drain => Doing::Drain,
            AdminState::Maintenance => Doing::Maintenance,
            AdminState::Ready if offer(backend) == Offer::Draining => Doing::Drain,
            AdminState::Ready if active && !standing.healthy => Doing::FailOpen,
            AdminState::Ready if active && ramp < 100 => Doing::Warming(ramp),
            AdminState::Ready if active => Doing::Active,
            AdminState::Ready if self.watch.is_ejected(&key(service, backend), now) => {
                Doing::Ejected
            }
            AdminState::Ready
                if standing.healthy && backend.tier == crate::config::Tier::Backup =>
            {
                Doing::Standby
            }
            AdminState::Ready => Doing::Out,
        }
    }

    /// Forgets backends that are configured no longer, but for what people decided.
    pub fn settle(&mut self, config: &Config, now: Instant) {
        let config = config.index();
        let known = |(service, backend): &BackendKey| config.backend(service, backend).is_some();
        self.watch.settle(now, known);
        self.ramps.settle(now, known);
        self.changed.retain(|key, _| known(key));
    }
}
