//! Events that no single place sees: who gets new connections and who does not any more, services of which
//! no backend is up, and what one configuration has that another has not.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::Instant,
};

use super::{Controller, condition, probes::BackendKey};
use crate::{
    api::Peer,
    config::{Config, OnAllDown, Service, Tier, shown},
    dataplane::Correction,
    events::{Kind, Note},
    plan::{BackendEntry, BackendId},
};

/// What was last told of who gets connections.
#[derive(Default)]
pub struct Told {
    /// The backends that get new connections.
    active: HashMap<BackendId, BackendKey>,
    /// Services of which no backend is up.
    down: HashSet<String>,
    /// Services of which something changed that may matter for that.
    doubtful: BTreeSet<String>,
}

impl Told {
    /// What a data path does that was taken over is no news.
    pub fn known(held: &crate::plan::Tables) -> Self {
        let active = held.backends.iter().filter(|(_, entry)| entry.active);
        let active = active.map(|(id, entry)| (*id, key(entry))).collect();
        Self { active, ..Self::default() }
    }

    /// Has a service looked at when the tables are written next.
    pub fn doubt(&mut self, service: &str) {
        if !self.doubtful.contains(service) {
            self.doubtful.insert(service.to_owned());
        }
    }
}

fn key(entry: &BackendEntry) -> BackendKey {
    (entry.service.clone(), entry.name.clone())
}

impl Controller {
    /// Tells what the tables that were just written have changed.
    pub(super) fn tell_changes(&mut self) {
        self.tell_active();
        for service in std::mem::take(&mut self.told.doubtful) {
            self.tell_down(&service);
        }
    }

    fn tell_active(&mut self) {
        let held = &self.applier.held().backends;
        let is_active =
            |id: &BackendId| held.get(id).is_some_and(|entry| entry.active && entry.live);
        let known = &self.told.active;
        let active = held.iter().filter(|(_, entry)| entry.active && entry.live);
        let joined: Vec<_> = active
            .filter(|(id, _)| !known.contains_key(id))
            .map(|(id, entry)| (*id, key(entry)))
            .collect();
        let left: Vec<_> = known.keys().filter(|id| !is_active(id)).copied().collect();
        for id in left {
            let Some(key) = self.told.active.remove(&id) else { continue };
            self.tell_one_active(&key, false);
        }
        for (id, key) in joined {
            self.tell_one_active(&key, true);
            self.told.active.insert(id, key);
        }
    }

    fn tell_one_active(&mut self, (service, backend): &BackendKey, joined: bool) {
        self.told.doubt(service);
        let known = self.loaded.config.service(service);
        let known = known.and_then(|known| Some((known, known.backend(backend)?)));
        let is_backup = known.is_some_and(|(_, backend)| backend.tier == Tier::Backup);
        let now = Instant::now();
        let why = known.map_or_else(
            || "removed".to_owned(),
            |(service, backend)| self.condition.doing(service, backend, joined, now).name(),
        );
        let what = if is_backup { "the backup" } else { "the backend" };
        let does = if joined { "gets new connections" } else { "gets no new connections" };
        let note = Note::new(Kind::Active, format!("{what} {does} now: {why}"));
        let note = note.backend(service, backend).because(why);
        if is_backup {
            // That one had to step in, or could step back, nothing else in the log tells.
            self.events.tell(note);
        } else {
            self.events.note(note);
        }
    }

    /// Tells when the last backend of a service is down or out, and when the first one is back.
    fn tell_down(&mut self, name: &str) {
        let Some(service) = self.loaded.config.service(name) else {
            self.told.down.remove(name);
            return;
        };
        let now = Instant::now();
        let standings =
            service.backends.iter().map(|backend| self.condition.standing(service, backend, now));
        let (mut usable, mut awaited, mut all) = (0_usize, 0_usize, 0_usize);
        for standing in standings {
            all += 1;
            usable += usize::from(standing.is_usable());
            awaited += usize::from(standing.admitted && standing.awaited);
        }
        let was_down = self.told.down.contains(name);
        if usable > 0 && was_down {
            self.told.down.remove(name);
            let message = format!("service {name}: {usable} of {all} backends can serve again");
            self.events.tell(Note::new(Kind::AllDown, message).service(name));
        } else if all > 0 && usable == 0 && awaited == 0 && !was_down {
            self.told.down.insert(name.to_owned());
            let then = match service.availability.on_all_down {
                OnAllDown::Keep => "new connections go on to those that people let take part",
                OnAllDown::Reject => "new connections are turned away",
            };
            let message = format!("service {name}: none of {all} backends can serve; {then}");
            self.events.tell(Note::new(Kind::AllDown, message).service(name).error());
        }
    }

    /// Notes what this configuration has that another one had not, and the other way round.
    pub(super) fn note_membership(&self, before: &Config, who: &Peer) {
        for note in membership(before, &self.loaded.config) {
            self.events.note(note.by(who));
        }
    }

    /// Notes that the way to an address was lost or came back, for each backend that has it.
    pub(super) fn note_way(&self, address: IpAddr, lost: Option<&str>) {
        let services = self.loaded.config.services.iter();
        let backends =
            services.flat_map(|service| service.backends.iter().map(move |b| (service, b)));
        for (service, backend) in backends.filter(|(_, backend)| backend.address.ip() == address) {
            let (service, backend) = condition::key(service, backend);
            self.events.note(match lost {
                Some(why) => Note::new(Kind::NextHop, format!("no way to {address}: {why}"))
                    .backend(&service, &backend)
                    .because(why)
                    .warning(),
                None => Note::new(Kind::NextHop, format!("{address} is reached again"))
                    .backend(&service, &backend),
            });
        }
    }

    /// Tells of a backend's counts that were wrong.
    pub(super) fn tell_corrected(&self, correction: &Correction) {
        let Correction { backend, open, established } = correction;
        let message = format!(
            "corrected the count of connections: open by {open:+}, established by {established:+}"
        );
        let note = Note::new(Kind::Drift, message).warning();
        self.events.tell(match self.applier.held().backends.get(backend) {
            Some(entry) => note.backend(&entry.service, &entry.name),
            None => note,
        });
    }

    /// Notes whose ejection is over.
    pub(super) fn tell_returned(&mut self, keys: Vec<BackendKey>) {
        for (service, backend) in keys {
            self.told.doubt(&service);
            let note = Note::new(Kind::Returned, "the backend's ejection is over");
            self.events.tell(note.backend(&service, &backend));
        }
    }
}

/// What people did to services and backends from one configuration to the next.
fn membership(before: &Config, after: &Config) -> Vec<Note> {
    let (old, new) = (before.index(), after.index());
    let mut notes = Vec::new();
    let mut add = |message: String, service: &str, backend: Option<&str>| {
        let note = Note::new(Kind::Membership, message);
        notes.push(match backend {
            Some(backend) => note.backend(service, backend),
            None => note.service(service),
        });
    };
    for service in &before.services {
        let Service { name, .. } = service;
        if new.service(name).is_none() {
            add(format!("service {name} removed"), name, None);
        }
        for backend in &service.backends {
            if new.backend(name, &backend.name).is_none() {
                add(format!("backend {name}/{} removed", backend.name), name, Some(&backend.name));
            }
        }
    }
    for service in &after.services {
        let Service { name, .. } = service;
        if old.service(name).is_none() {
            let (address, protocol) = (shown(service.address), service.protocol);
            add(format!("service {name} added at {address}/{protocol}"), name, None);
        }
        for backend in &service.backends {
            let label = format!("backend {name}/{}", backend.name);
            let address = shown(backend.address);
            let message = match old.backend(name, &backend.name) {
                None => format!("{label} added at {address}"),
                Some(known) if known.address != backend.address => {
                    format!("{label} is at {address}, was at {}", shown(known.address))
                }
                Some(known) if known.weight != backend.weight => {
                    format!("{label} has weight {}, had {}", backend.weight, known.weight)
                }
                Some(_) => continue,
            };
            add(message, name, Some(&backend.name));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path};

    use super::*;

    /// A backend: its name, address and weight.
    type Member = (&'static str, &'static str, u16);

    fn config(services: &[(&str, &[Member])]) -> Config {
        let mut text = "[node]\ninterfaces = [\"eth0\"]\n".to_owned();
        for (index, (name, backends)) in services.iter().enumerate() {
            let address = format!("192.0.2.{}:80", index + 1);
            write!(text, "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\n").unwrap();
            for (name, address, weight) in *backends {
                write!(text, "[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")
                    .unwrap();
                writeln!(text, "weight = {weight}").unwrap();
            }
        }
        Config::parse(&text, Path::new("evenkeel.toml")).unwrap().config
    }

    #[test]
    fn what_a_whole_text_does_to_members_is_told_one_by_one() {
        let old = config(&[
            ("web", &[("a", "10.0.0.1:80", 1), ("b", "10.0.0.2:80", 1), ("c", "10.0.0.3:80", 1)]),
            ("old", &[("a", "10.0.0.1:81", 1)]),
        ]);
        let new = config(&[
            ("web", &[("a", "10.0.0.1:80", 5), ("b", "10.0.0.9:80", 1), ("d", "10.0.0.4:80", 1)]),
            ("new", &[]),
        ]);
        let notes = membership(&old, &new);
        let events = crate::events::Events::in_memory();
        for note in notes {
            events.note(note);
        }
        let page = events.page(Some(0), 100, &crate::events::Filter::default());
        let told: Vec<_> = page.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "backend web/c removed",
                "service old removed",
                "backend old/a removed",
                "backend web/a has weight 5, had 1",
                "backend web/b is at 10.0.0.9:80, was at 10.0.0.2:80",
                "backend web/d added at 10.0.0.4:80",
                "service new added at 192.0.2.2:80/tcp",
            ]
        );
        assert_eq!(membership(&new, &new).len(), 0);
    }
}
