//! Taking what the store has: its services into the file, the history and the tables, and who is taken out.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use tracing::{info, warn};

use super::{
    super::{
        Controller, Refused,
        administer::{admin, describe, is_known},
        configuration::Deed,
        probes::BackendKey,
    },
    AGAIN, Settled,
    verdict::{Here, Verdict, judge},
};
use crate::{
    admin::Exceptions,
    api::{Peer, configuration::Candidate},
    config::edit::{services_of, with_services},
    events::{Kind, Note},
    store::{Record, Refusal, Snapshot},
};

impl Controller {
    /// Takes what the store has, if that is news and may be taken.
    pub(in super::super) async fn follow_store(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.retry = None;
        let Some(seen) = fleet.store.state().seen else { return };
        let is_known = fleet.handled.as_ref().is_some_and(|handled| Arc::ptr_eq(handled, &seen));
        if is_known && fleet.refused.is_none() {
            // What other edges tell of themselves has changed, or a confirmation did not come.
            fleet.answer();
            self.expire_shared();
            return;
        }
        fleet.handled = Some(Arc::clone(&seen));
        match self.judge_shared(&seen) {
            Verdict::Done => self.note_taken(None),
            Verdict::Fill => {
                if let Some(fleet) = &mut self.fleet {
                    fleet.handled = None;
                    fleet.retry = Some(Instant::now() + AGAIN);
                }
                self.fill_store();
            }
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
        let services = match services_of(&self.loaded.text) {
            Ok(services) => services,
            Err(error) => return Verdict::Refuse(error.to_string()),
        };
        let exceptions: Exceptions = seen.exceptions.iter().cloned().collect();
        let here = Here {
            kept: &fleet.kept,
            services: &services,
            file: &self.path.display().to_string(),
            keys: &fleet.store.keys().all(),
            is_ours: seen.change.as_ref().is_some_and(|record| fleet.intends(record)),
            same_exceptions: exceptions.iter().eq(self.condition.exceptions.iter()),
        };
        judge(seen, &here)
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
        let wanted = seen.exceptions.iter().filter(|exception| {
            is_known(config, exception) && exception.until.is_none_or(|until| until > now)
        });
        let mut exceptions: Exceptions = wanted.cloned().collect();
        exceptions.node.clone_from(&self.condition.exceptions.node);
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
        self.expire_shared();
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
