//! Discovered backends: answers of the sources become members of the services, and what is told of the sources.
//!
//! The configuration that the controller has is the effective one: what the text names, and who is known beside it. So
//! nothing else has to know of discovery. [`Controller::effective`] makes it wherever a text is read.

use std::{collections::BTreeMap, path::Path};

use tokio::sync::mpsc;

use super::{Controller, Refused, condition};
use crate::{
    api::{Peer, model::SourceStatus},
    config::{Config, Loaded, Offer, Service},
    discovery::{Book, Entry, Follower, Key, News, Said, merge, store},
    events::{Events, Kind, Note},
};

/// What is known of the sources, and who asks them.
pub struct Discovery {
    book: Book,
    follower: Follower,
    keeper: store::Keeper,
}

impl Discovery {
    /// Remembers what was said last of the sources of `config`, and gives out what they will say. Must be called
    /// inside a runtime. `room`: backends that the tables hold.
    pub fn open(
        state_dir: &Path,
        config: &Config,
        room: u32,
        events: &Events,
    ) -> (Self, mpsc::Receiver<News>) {
        let (mut book, trouble) = store::recover(state_dir, config);
        let trouble = trouble.or_else(|| {
            let services = merge(config, &book).services;
            let count: usize = services.iter().map(|service| service.backends.len()).sum();
            (count > room as usize && book != Book::default()).then(|| {
                book = Book::default();
                format!("there is no room for the {count} backends that were known last")
            })
        });
        if let Some(trouble) = trouble {
            events.tell(Note::new(Kind::Trouble, trouble).error());
        }
        let (told, news) = mpsc::channel(64);
        let keeper = store::Keeper::start(state_dir);
        (Self { book, follower: Follower::new(told), keeper }, news)
    }

    /// A configuration with the backends that are known.
    pub fn effective(&self, mut loaded: Loaded) -> Loaded {
        loaded.config = merge(&loaded.config, &self.book);
        loaded
    }

    /// Asks the sources of a configuration.
    pub fn follow(&mut self, config: &Config) {
        self.follower.follow(config, &self.book);
    }

    /// Notes what is not on the disk yet.
    pub fn finish(&self) {
        self.keeper.finish();
    }
}

impl Controller {
    /// A configuration with the backends that are known.
    pub(super) fn effective(&self, loaded: Loaded) -> Loaded {
        self.discovery.effective(loaded)
    }

    /// Takes up what a source said.
    pub(super) fn note_discovered(&mut self, News { key, heard }: News) {
        let (config, now) = (&self.loaded.config, self.clock.now());
        if config.service(&key.0).is_none_or(|service| !service.discover.contains(&key.1)) {
            return;
        }
        let book = &mut self.discovery.book;
        let before = book.get(&key).cloned().unwrap_or_default();
        let left_out = before.told_left_out();
        let mut turn = book.note(config, &key, heard, now);
        if turn.taken {
            if let Err(why) = self.take_discovered(&key.1.to_string()) {
                turn = self.discovery.book.put_back(&key, before, why, now);
            } else {
                self.discovery.keeper.keep(&self.discovery.book);
            }
        }
        if let Some(said) = turn.said {
            self.tell_source(&key, &said);
        }
        let now_left_out = self.discovery.book.get(&key).map(Entry::told_left_out);
        if let Some(now_left_out) = now_left_out.filter(|now| !now.is_empty() && *now != left_out) {
            let message = format!("{} has servers that cannot be backends: {now_left_out}", key.1);
            self.events.tell(Note::new(Kind::Discovery, message).service(&key.0).warning());
        }
    }

    /// Makes the backends that are known now members; nothing has changed where there is no room for them.
    fn take_discovered(&mut self, source: &str) -> Result<(), String> {
        let candidate = self.effective(self.loaded.clone());
        self.plan(&candidate).map_err(|full| full.to_string())?;
        let failed = fallen(&self.loaded.config, &candidate.config);
        self.carry_health(&candidate);
        self.note_added(&candidate);
        let before = std::mem::replace(&mut self.loaded, candidate);
        self.note_membership(&before.config, &Peer::named(source));
        for service in &self.loaded.config.services {
            self.told.doubt(&service.name);
        }
        for key in &failed {
            self.condition.note_change(key);
            self.has_failed(key);
        }
        self.follow_configuration();
        self.update();
        Ok(())
    }

    fn tell_source(&self, (service, source): &Key, said: &Said) {
        let known = self.discovery.book.found(&(service.clone(), source.clone())).len();
        let note = match said {
            Said::Trouble(why) => {
                let message = format!(
                    "{source} gives no usable answer, and the {known} backends known from it stay: {why}"
                );
                Note::new(Kind::Discovery, message).because(why).warning()
            }
            Said::Well => {
                Note::new(Kind::Discovery, format!("{source} answers again: {known} backends"))
            }
        };
        self.events.tell(note.service(service));
    }

    /// What is known of a service's sources.
    pub(super) fn sources_of(&self, service: &Service) -> Vec<SourceStatus> {
        let counts = service.backends.iter().filter_map(|backend| backend.origin.as_ref()).fold(
            BTreeMap::new(),
            |mut counts, origin| {
                *counts.entry(&origin.source).or_insert(0_u64) += 1;
                counts
            },
        );
        let of = |source| {
            let key = (service.name.clone(), source);
            let entry = self.discovery.book.get(&key).cloned().unwrap_or_default();
            let shown = |at| humantime::format_rfc3339_seconds(at).to_string();
            let left_out = entry.told_left_out();
            let (problem, since) = entry.problem.map(|(why, since)| (why, shown(since))).unzip();
            SourceStatus {
                backends: counts.get(&key.1).copied().unwrap_or(0),
                source: key.1.to_string(),
                answered: entry.answered.map(shown),
                problem,
                since,
                left_out,
            }
        };
        service.discover.iter().cloned().map(of).collect()
    }

    /// Refuses to edit a backend that the text does not name, and says what can be done with it.
    pub(super) fn is_declared(
        &self,
        service: &str,
        backend: &str,
        instead: &str,
    ) -> Result<(), Refused> {
        let known =
            self.loaded.config.service(service).and_then(|service| service.backend(backend));
        let Some(origin) = known.and_then(|backend| backend.origin.as_ref()) else { return Ok(()) };
        Err(Refused::Conflict(format!(
            "backend {service}/{backend} comes from {}, and not from the configuration; {instead}",
            origin.source
        )))
    }
}

/// The backends that their sources say are out, and did not before.
fn fallen(before: &Config, after: &Config) -> Vec<(String, String)> {
    let old = before.index();
    let services = after.services.iter();
    let backends = services.flat_map(|service| service.backends.iter().map(move |b| (service, b)));
    let is_out = |backend: &crate::config::Backend| {
        backend.origin.as_ref().is_some_and(|origin| origin.offer == Offer::Out)
    };
    backends
        .filter(|(service, backend)| {
            let known = old.backend(&service.name, &backend.name);
            is_out(backend) && known.is_some_and(|known| !is_out(known))
        })
        .map(|(service, backend)| condition::key(service, backend))
        .collect()
}
