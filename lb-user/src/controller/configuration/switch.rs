//! From one configuration to another: the history, the file and the tables, together or not at all.

use std::{collections::HashMap, fs, time::Instant};

use tracing::{error, warn};

use super::{
    super::{Controller, Refused, probes::BackendKey},
    judge::active,
};
use crate::{
    api::Peer,
    config::{Config, Loaded, write_atomically},
    events::Note,
    health::Health,
    plan::Tables,
};

/// What is done to the configuration: for the events, and for the history.
pub(in super::super) struct Deed<'a> {
    /// As an event.
    pub(in super::super) note: Note,
    /// Whether it is another text as a whole, so that its single changes are to be found.
    pub(in super::super) is_whole: bool,
    /// Who asked for it.
    pub(in super::super) peer: &'a Peer,
    /// What it changes.
    pub(in super::super) what: &'a str,
}

impl Controller {
    /// Makes `loaded` the configuration; `on_disk` says that the file has its text already, `force` that
    /// services may be left with fewer active backends than they shall have. Returns its number in the
    /// history, and who carries the load of those that leave.
    ///
    /// # Errors
    ///
    /// Where too few backends would stay, it has no room in the tables, or one of the three cannot be
    /// written; what was is put back then.
    pub(in super::super) fn switch(
        &mut self,
        loaded: Loaded,
        on_disk: bool,
        force: bool,
        Deed { note, is_whole, peer, what }: Deed<'_>,
    ) -> Result<(u64, Vec<String>), Refused> {
        let before = is_whole.then(|| self.loaded.config.clone());
        let loaded = self.effective(loaded);
        let health = self.carry_health(&loaded);
        self.note_added(&loaded);
        let written = self.switch_with(loaded, on_disk, force, peer, what);
        if written.is_ok() {
            self.events.tell(note);
            if let Some(before) = before {
                self.note_membership(&before, peer);
            }
            self.tell_changes();
        } else {
            self.condition.health = health;
        }
        self.configuration.watch.forget();
        self.look_at_file();
        written
    }

    fn switch_with(
        &mut self,
        loaded: Loaded,
        on_disk: bool,
        force: bool,
        peer: &Peer,
        what: &str,
    ) -> Result<(u64, Vec<String>), Refused> {
        let wanted = self.plan(&loaded).map_err(|error| Refused::Invalid(error.to_string()))?;
        let notes = self.guard(&loaded, &wanted, force)?;
        self.configuration.record_start(&self.loaded.text).map_err(Refused::Failed)?;
        let history = &self.configuration.history;
        let prepared = history.prepare(&loaded.text, peer, what).map_err(Refused::Failed)?;
        if !on_disk && let Err(error) = write_atomically(&self.path, &loaded.text) {
            // What failed last may be the flush of a directory that has the new file already.
            if fs::read_to_string(&self.path).is_ok_and(|text| text == loaded.text) {
                self.put_back_file();
            }
            return Err(Refused::Failed(error));
        }
        if let Err(error) = self.applier.apply(&wanted) {
            if !on_disk {
                self.put_back_file();
            }
            self.update();
            return Err(Refused::Failed(error.context("write the data path's tables")));
        }
        self.loaded = loaded;
        self.formers.note(&self.applier, Instant::now());
        self.note_joined();
        self.note_retired();
        self.note_timing();
        self.follow_configuration();
        let number = prepared.number();
        if let Err(error) = self.configuration.history.commit(prepared) {
            // It is at work and on the disk; the next start has it in the history.
            warn!("change {number} is not in the history yet: {error:#}");
        }
        Ok((number, notes))
    }

    fn put_back_file(&self) {
        if let Err(error) = write_atomically(&self.path, &self.loaded.text) {
            error!("could not restore the configuration file: {error:#}");
        }
    }

    /// Takes what is known of backends' health over to another configuration, and returns what was
    /// known before.
    pub(in super::super) fn carry_health(&mut self, new: &Loaded) -> HashMap<BackendKey, Health> {
        let carried =
            carried(&self.loaded.config, &new.config, &self.condition.health, self.applier.held());
        std::mem::replace(&mut self.condition.health, carried)
    }
}

/// What is known of the health of the backends of `new`: a server that stays keeps it, and one that
/// gets connections unprobed counts as up until its new probe has judged. Another address is another
/// server, of which nothing is known.
fn carried(
    old: &Config,
    new: &Config,
    health: &HashMap<BackendKey, Health>,
    held: &Tables,
) -> HashMap<BackendKey, Health> {
    let (active, mut carried) = (active(held), HashMap::new());
    let old = old.index();
    for service in new.services.iter().filter(|service| service.health.timing().is_some()) {
        let known = old.service(&service.name);
        let backends = known.iter().flat_map(|known| &known.backends);
        let addresses: HashMap<_, _> = backends.map(|backend| (backend.address, backend)).collect();
        for backend in &service.backends {
            let same = old.backend(&service.name, &backend.name);
            let same = same.filter(|same| same.address == backend.address).or_else(|| {
                // Discovered or declared, it is the same server under another name.
                addresses.get(&backend.address).copied()
            });
            let Some(same) = same else { continue };
            let was = (service.name.clone(), same.name.clone());
            let key = (service.name.clone(), backend.name.clone());
            let unprobed = known.is_some_and(|service| service.health.timing().is_none());
            let active = active.contains(&(service.name.as_str(), same.name.as_str()));
            let health = match health.get(&was) {
                Some(health) if !unprobed => *health,
                _ if unprobed && active => Health::Up,
                _ => continue,
            };
            carried.insert(key, health);
        }
    }
    carried
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::{BackendEntry, BackendId};

    fn config(probe: &str, address: &str) -> Config {
        let text = format!(
            "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
             address = \"192.0.2.10:80\"\n[service.health]\nkind = \"{probe}\"\n\
             [[service.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
        );
        Config::parse(&text, Path::new("evenkeel.toml")).unwrap().config
    }

    #[test]
    fn health_goes_with_the_server_and_not_with_its_name() {
        let key = ("web".to_owned(), "a".to_owned());
        let up = HashMap::from([(key.clone(), Health::Up)]);
        let down = HashMap::from([(key.clone(), Health::Down)]);
        let none = HashMap::new();
        let held = |active| {
            let entry = BackendEntry {
                active,
                live: true,
                ..BackendEntry::new(
                    "web".to_owned(),
                    "a".to_owned(),
                    "10.0.0.1:80".parse().unwrap(),
                    crate::config::Protocol::Tcp,
                )
            };
            Tables { backends: [(BackendId(1), entry)].into(), ..Tables::default() }
        };
        let (here, there) = ("10.0.0.1:80", "10.0.0.2:80");
        for (old, new, health, active, expected) in [
            (("tcp", here), ("http", here), &up, true, Some(Health::Up)),
            (("tcp", here), ("tcp", here), &down, false, Some(Health::Down)),
            (("tcp", here), ("tcp", there), &up, true, None),
            (("none", here), ("tcp", here), &none, true, Some(Health::Up)),
            (("none", here), ("tcp", here), &none, false, None),
            (("none", here), ("tcp", there), &none, true, None),
            (("tcp", here), ("none", here), &down, false, None),
        ] {
            let (old, new) = (config(old.0, old.1), config(new.0, new.1));
            let carried = carried(&old, &new, health, &held(active));
            assert_eq!(carried.get(&key).copied(), expected, "{old:?} {new:?}");
        }
    }
}
