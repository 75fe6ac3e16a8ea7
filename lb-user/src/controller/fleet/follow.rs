//! Taking what the store has: its services into the file, the history and the tables, and who is taken out.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use tracing::{info, warn};

use super::{
    super::{
        Controller, Refused,
        administer::{admin, describe},
        configuration::Deed,
        probes::BackendKey,
    },
    AGAIN, Fleet, Settled,
};
use crate::{
    admin::Exceptions,
    api::{Peer, configuration::Candidate},
    config::edit::{services_of, with_services},
    events::{Kind, Note},
    store::{Record, Refusal, Snapshot},
};

/// What is to be done with what the store has.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is at work here.
    Done,
    /// It is to be taken.
    Take,
    /// The store is empty, and gets what is here.
    Fill,
    /// It is not taken.
    Refuse(String),
}

impl Controller {
    /// Takes what the store has, if that is news and may be taken.
    pub(in super::super) async fn follow_store(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.retry = None;
        let Some(seen) = fleet.store.state().seen else { return };
        match self.judge_shared(&seen) {
            Verdict::Done => self.note_taken(None),
            Verdict::Fill => self.fill_store(),
            Verdict::Take => match self.take_shared(&seen).await {
                Ok(settled) => self.note_taken(Some((&seen, settled))),
                Err(refused) => self.note_refused(&seen, in_a_line(&refused.to_string())),
            },
            Verdict::Refuse(why) => self.note_refused(&seen, why),
        }
        self.tell_fleet(Instant::now());
    }

    fn judge_shared(&self, seen: &Snapshot) -> Verdict {
        let Some(fleet) = &self.fleet else { return Verdict::Done };
        match services_of(&self.loaded.text) {
            Ok(here) => fleet.judge(seen, &here, &self.path.display().to_string()),
            Err(error) => Verdict::Refuse(error.to_string()),
        }
    }

    /// Makes what the store has this edge's own: all of it or nothing.
    pub(super) async fn take_shared(&mut self, seen: &Arc<Snapshot>) -> Result<Settled, Refused> {
        self.configuration.nothing_pending()?;
        let Some(fleet) = &self.fleet else { return Ok(Settled::default()) };
        let record = seen.change.as_ref();
        let intent = fleet.intents.iter().find(|i| record.is_some_and(|record| record.id == i.id));
        let own = intent.and_then(|intent| intent.text.as_ref());
        let own = own.filter(|text| services_of(text).is_ok_and(|own| own == seen.services));
        let text = match own {
            Some(text) => text.clone(),
            None => with_services(&self.loaded.text, &seen.services)?,
        };
        let (key, edge) = (fleet.store.keys().services(), fleet.store.edge());
        let peer = record.map_or_else(|| Peer::named("etcd"), |record| told_by(record, edge));
        let what = record.map_or_else(
            || format!("took revision {} of the store", seen.revision()),
            |record| record.what.clone(),
        );
        let mut settled = Settled::default();
        if text != self.loaded.text {
            let on_disk = self.would_overwrite(&text)?;
            let judged = self.judge(&Candidate { text, file: key.into() })?;
            self.admit(&judged)?;
            let note = Note::new(Kind::Configuration, &what).by(&peer);
            let deed = Deed { note, is_whole: true, peer: &peer, what: &what };
            // The edge that wrote it has guarded it: those that see other backends down follow all the same.
            settled.number = Some(self.switch(judged.loaded, on_disk, true, deed)?.0);
        }
        self.take_exceptions(seen, &peer)?;
        let cut = self.ids(record.map_or(&[], |record| &record.cut[..]));
        settled.cut = self.cut(cut).await.unwrap_or_else(|error| {
            warn!("not all open connections were cut: {error:#}");
            0
        });
        Ok(settled)
    }

    /// Takes out and back whom the store says. Those of whom this edge knows nothing wait there.
    fn take_exceptions(&mut self, seen: &Snapshot, peer: &Peer) -> Result<(), Refused> {
        let now = self.clock.now();
        let config = &self.loaded.config;
        let known = |(service, backend): &BackendKey| {
            config.service(service).is_some_and(|service| service.backend(backend).is_some())
        };
        let wanted = seen.exceptions.iter().filter(|exception| {
            let key = (exception.service.clone(), exception.backend.clone());
            known(&key) && exception.until.is_none_or(|until| until > now)
        });
        let mut exceptions: Exceptions = wanted.cloned().collect();
        exceptions.node = self.condition.exceptions.node.clone();
        let all = self.condition.exceptions.iter().chain(exceptions.iter());
        let keys: BTreeSet<_> = all.map(|e| (e.service.clone(), e.backend.clone())).collect();
        let changed: Vec<BackendKey> = keys
            .into_iter()
            .filter(|key| self.condition.exceptions.get(key) != exceptions.get(key))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let news = changed.iter().map(|key| {
            let label = format!("{}/{}", key.0, key.1);
            match exceptions.get(key) {
                Some(exception) => {
                    let line = format!("backend {label} {}", describe(exception, now));
                    admin(key, &line).by(peer).because(&exception.reason)
                }
                None => admin(key, &format!("backend {label} is ready again")).by(peer),
            }
        });
        let news = news.collect();
        self.take(exceptions, &changed, true, news).map(drop)
    }

    /// Notes that this edge has what the store has; `None`: as before.
    pub(super) fn note_taken(&mut self, taken: Option<(&Arc<Snapshot>, Settled)>) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Some(refused) = fleet.refused.take() {
            let message =
                format!("the store can be followed again (revision {})", refused.revision);
            self.events.tell(Note::new(Kind::Trouble, message));
        }
        if let Some((seen, settled)) = taken {
            fleet.kept.cluster = seen.cluster;
            fleet.kept.revision = seen.revision();
            fleet.kept.services.clone_from(&seen.services);
            fleet.settled = settled;
            info!(revision = seen.revision(), "took what the store has");
            if let Err(error) = fleet.kept.write(&self.state_dir) {
                warn!("what was taken from the store is not noted: {error:#}");
            }
        }
        fleet.answer();
        self.tidy_store();
    }

    fn note_refused(&mut self, seen: &Snapshot, why: String) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.retry = Some(Instant::now() + AGAIN);
        let refused = Refusal { revision: seen.revision(), why };
        if fleet.refused.as_ref() != Some(&refused) {
            let message = format!(
                "revision {} of the store is not taken, what is at work goes on: {}",
                refused.revision, refused.why
            );
            self.events.tell(Note::new(Kind::Trouble, message).because(&refused.why).error());
        }
        fleet.refused = Some(refused);
        fleet.answer();
    }
}

impl Fleet {
    /// What is to be done with what the store has, where these are the services here; `file` names their
    /// file.
    fn judge(&self, seen: &Snapshot, here: &str, file: &str) -> Verdict {
        let Self { kept, store, .. } = self;
        let way_out = "`evenkeel store pull` takes what the store has, `evenkeel store push` writes what is at \
                       work here over it";
        let refuse = |why: String| Verdict::Refuse(format!("{why}; {way_out}"));
        if let Some(problem) = &seen.problem {
            return refuse(problem.clone());
        }
        let ours = |record: &Record| self.intents.iter().any(|intent| intent.id == record.id);
        let revision = seen.revision();
        let is_at_work = kept.cluster == seen.cluster && kept.revision == revision;
        if seen.change.as_ref().is_some_and(ours) && !is_at_work {
            return Verdict::Take;
        }
        if seen.is_empty() {
            return match (kept.has_joined(), here.is_empty()) {
                (true, _) => {
                    let all = store.keys().all();
                    refuse(format!("the store has nothing under {all} any more"))
                }
                (false, true) => Verdict::Done,
                (false, false) => Verdict::Fill,
            };
        }
        if !kept.has_joined() {
            if here.is_empty() || here == seen.services {
                return Verdict::Take;
            }
            return refuse(format!(
                "{file} has other services than the store, and this edge has never followed it"
            ));
        }
        if kept.cluster != seen.cluster {
            return refuse("this is another etcd than the one that this edge followed".to_owned());
        }
        if revision < kept.revision {
            let before = kept.revision;
            return refuse(format!("the store went back from revision {before} to {revision}"));
        }
        if here != kept.services && here != seen.services {
            return refuse(format!(
                "the services in {file} were edited by hand since revision {}",
                kept.revision
            ));
        }
        if is_at_work && here == seen.services { Verdict::Done } else { Verdict::Take }
    }
}

/// Why something is refused as other edges are told: in one line, and without what is only warned of.
fn in_a_line(why: &str) -> String {
    let lines = why.lines().map(str::trim).filter(|line| !line.contains(": warning: "));
    lines.collect::<Vec<_>>().join(" ")
}

/// Who made a change, as this edge tells it.
fn told_by(record: &Record, here: &str) -> Peer {
    if record.edge == here {
        return record.by.clone();
    }
    Peer::named(&format!("{} on {}", record.by, record.edge))
}
