//! What changes from one configuration to another: settings, services, backends, and the shares of
//! new connections. A pure function; who is active is the caller's to know.
//!
//! Keys are those of the file, and only values count: a default that is written out is no change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Standing, members};
use crate::config::{Backend, Config, PrefixLists, Service};

/// Entries of a list of prefixes that are shown one by one.
const MOST_SHOWN: usize = 8;

/// The changes from one configuration to another, in the order of the new one; what was removed
/// stands last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// Outside the services, by keys like `nat.source_ports`.
    pub settings: Vec<Setting>,
    /// Services that change or whose backends do.
    pub services: Vec<ServiceDiff>,
}

/// A value that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The key, below its `[[service]]` or `[[service.backend]]` where it is of one.
    pub key: String,
    /// As it was; null where it was not set.
    pub before: Value,
    /// As it will be; null where it will not be set.
    pub after: Value,
}

/// What becomes of a service or a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// Its settings change.
    Changed,
    /// Its settings stay. Of a service a backend changes then, of a backend at most the share.
    Kept,
}

/// A service that changes or whose backends do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDiff {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Its settings that change: all of them where it is added or removed.
    pub settings: Vec<Setting>,
    /// Its backends, where one of them changes or another share goes to one.
    pub backends: Vec<BackendDiff>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendDiff {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Its settings that change: all of them where it is added or removed.
    pub settings: Vec<Setting>,
    /// Its part of new connections before, from 0 to 1.
    pub share_before: f64,
    /// Its part of new connections after, from 0 to 1.
    pub share_after: f64,
}

/// A configuration, and which of its backends get new connections.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Whether a backend may get new connections.
    pub active: &'a dyn Fn(&Service, &Backend) -> bool,
}

impl Diff {
    /// What changes from one side to the other.
    #[must_use]
    pub fn between(before: Side<'_>, after: Side<'_>) -> Self {
        let pairs = paired(&before.config.services, &after.config.services, |s| &s.name);
        let services = pairs.into_iter().filter_map(|(old, new)| {
            let diff = service(old.map(|old| (old, before)), new.map(|new| (new, after)))?;
            (diff.fate != Fate::Kept || !diff.backends.is_empty()).then_some(diff)
        });
        Self {
            settings: changes(&settings_of(before.config), &settings_of(after.config)),
            services: services.collect(),
        }
    }

    /// Whether nothing changes, shares included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.services.is_empty()
    }

    /// The settings that a daemon takes up only when it starts: interfaces, and the sizes of tables.
    pub fn needs_restart(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| {
            let key = setting.key.as_str();
            matches!(key, "node.interfaces" | "node.xdp_mode")
                || key.starts_with("tables.")
                || key.starts_with("store.")
        })
    }

    /// The changes in a few words, like `1 service added, 2 backends removed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut say = |count: usize, what: &str, fate: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}{} {fate}", if count == 1 { "" } else { "s" }));
            }
        };
        let fates =
            [(Fate::Added, "added"), (Fate::Removed, "removed"), (Fate::Changed, "changed")];
        for (fate, word) in fates {
            say(self.services.iter().filter(|s| s.fate == fate).count(), "service", word);
        }
        for (fate, word) in fates {
            let backends = self.services.iter().flat_map(|service| &service.backends);
            say(backends.filter(|backend| backend.fate == fate).count(), "backend", word);
        }
        say(self.settings.len(), "setting", "changed");
        if parts.is_empty() { "nothing changes".to_owned() } else { parts.join(", ") }
    }
}

/// Each backend's part of new connections, by name: by weight, among the active ones of the tier that
/// is at work.
#[must_use]
pub fn shares(service: &Service, active: impl Fn(&Backend) -> bool) -> BTreeMap<&str, f64> {
    let standing = |backend: &Backend| Standing { healthy: active(backend), ..Standing::default() };
    let at_work: Vec<_> =
        members(service, standing).into_iter().map(|index| &service.backends[index]).collect();
    let sum: f64 = at_work.iter().map(|backend| f64::from(backend.weight)).sum();
    let share = |backend: &Backend| f64::from(backend.weight) / sum;
    at_work.into_iter().map(|backend| (backend.name.as_str(), share(backend))).collect()
}

/// A value of a [`Setting`] for people.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(entries) if entries.is_empty() => "none".to_owned(),
        Value::Array(entries) => entries.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn service(
    old: Option<(&Service, Side<'_>)>,
    new: Option<(&Service, Side<'_>)>,
) -> Option<ServiceDiff> {
    let named = new.or(old)?.0;
    let settings_of = |side: Option<(&Service, Side<'_>)>| {
        side.map(|(service, _)| settings_of_service(service)).unwrap_or_default()
    };
    let settings = changes(&settings_of(old), &settings_of(new));
    let backends = |side: Option<(&'_ Service, Side<'_>)>| {
        side.map(|(service, _)| service.backends.clone()).unwrap_or_default()
    };
    let shares_of = |side: Option<(&Service, Side<'_>)>| -> BTreeMap<String, f64> {
        let Some((service, Side { active, .. })) = side else { return BTreeMap::new() };
        let shares = shares(service, |backend| active(service, backend)).into_iter();
        shares.map(|(name, share)| (name.to_owned(), share)).collect()
    };
    let (shares_before, shares_after) = (shares_of(old), shares_of(new));
    let (before, after) = (backends(old), backends(new));
    let backends = paired(&before, &after, |backend| &backend.name).into_iter();
    let backends: Vec<_> = backends
        .filter_map(|(one, other)| {
            let name = &other.or(one)?.name;
            let settings_of =
                |backend: Option<&Backend>| backend.map(settings_of_backend).unwrap_or_default();
            let settings = changes(&settings_of(one), &settings_of(other));
            Some(BackendDiff {
                name: name.clone(),
                fate: fate(one, other, &settings),
                settings,
                share_before: shares_before.get(name).copied().unwrap_or(0.0),
                share_after: shares_after.get(name).copied().unwrap_or(0.0),
            })
        })
        .collect();
    let moves = |backend: &BackendDiff| {
        backend.fate != Fate::Kept || (backend.share_before - backend.share_after).abs() > 1e-9
    };
    Some(ServiceDiff {
        name: named.name.clone(),
        fate: fate(old, new, &settings),
        settings,
        backends: if backends.iter().any(moves) { backends } else { Vec::new() },
    })
}

fn fate<T>(old: Option<T>, new: Option<T>, settings: &[Setting]) -> Fate {
    match (old, new) {
        (None, _) => Fate::Added,
        (_, None) => Fate::Removed,
        _ if settings.is_empty() => Fate::Kept,
        _ => Fate::Changed,
    }
}

/// The items of both lists by name: those of the new one in its order, then those that are gone.
fn paired<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&T) -> &String,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let by_name = |items: &'a [T]| -> BTreeMap<_, &'a T> {
        items.iter().map(|item| (name(item).clone(), item)).collect()
    };
    let (known, wanted) = (by_name(old), by_name(new));
    let stay = new.iter().map(|item| (known.get(name(item)).copied(), Some(item)));
    let gone = old.iter().filter(|item| !wanted.contains_key(name(item)));
    stay.chain(gone.map(|item| (Some(item), None))).collect()
}

type Settings = BTreeMap<String, Value>;

fn changes(old: &Settings, new: &Settings) -> Vec<Setting> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let value = |settings: &Settings, key| settings.get(key).cloned().unwrap_or(Value::Null);
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed
        .map(|key| {
            let (before, after) = (value(old, key), value(new, key));
            match (&before, &after) {
                (Value::Array(old), Value::Array(new))
                    if old.len() > MOST_SHOWN || new.len() > MOST_SHOWN =>
                {
                    let (before, after) = counted(old, new);
                    Setting { key: key.clone(), before, after }
                }
                _ => Setting { key: key.clone(), before, after },
            }
        })
        .collect()
}

/// Long lists as numbers.
fn counted(old: &[Value], new: &[Value]) -> (Value, Value) {
    let set = |list: &[Value]| -> BTreeSet<String> { list.iter().map(Value::to_string).collect() };
    let (before, after) = (set(old), set(new));
    let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
    let entries = |list: &[Value]| format!("{} entries", list.len());
    (
        Value::String(entries(old)),
        Value::String(format!("{} ({added} added, {removed} removed)", entries(new))),
    )
}

fn settings_of(config: &Config) -> Settings {
    let mut settings = flat(config, &["services", "node.prefixes"]);
    let [v4, v6] = ["tunnel.source_v4", "tunnel.source_v6"].map(|key| settings.remove(key));
    let tunnel = [v4, v6].into_iter().flatten().collect();
    settings.insert("tunnel.source_prefixes".to_owned(), Value::Array(tunnel));
    prefixes("node.", &config.node.prefixes, &mut settings);
    settings
}

fn settings_of_service(service: &Service) -> Settings {
    const LIMITS: [(&str, &str); 4] = [
        ("limits.service.per_second", "limits.new_connections"),
        ("limits.service.burst", "limits.burst"),
        ("limits.client.per_second", "limits.client_new_connections"),
        ("limits.client.burst", "limits.client_burst"),
    ];
    let mut settings = flat(service, &["name", "backends", "prefixes"]);
    for (inner, key) in LIMITS {
        if let Some(value) = settings.remove(inner) {
            settings.insert(key.to_owned(), value);
        }
    }
    prefixes("", &service.prefixes, &mut settings);
    settings
}

fn settings_of_backend(backend: &Backend) -> Settings {
    flat(backend, &["name"])
}

fn prefixes(section: &str, lists: &PrefixLists, settings: &mut Settings) {
    for (key, list) in [("allow", &lists.allow), ("deny", &lists.deny)] {
        if !list.is_empty() {
            let entries = list.iter().map(|prefix| Value::String(prefix.to_string())).collect();
            settings.insert(format!("{section}{key}"), Value::Array(entries));
        }
    }
}

/// The values of a section by their keys, tables within it as `table.key`.
fn flat(section: &impl Serialize, without: &[&str]) -> Settings {
    fn walk(key: &str, value: Value, without: &[&str], settings: &mut Settings) {
        if without.contains(&key) {
            return;
        }
        if let Value::Object(entries) = value {
            for (name, value) in entries {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                walk(&key, value, without, settings);
            }
        } else if !value.is_null() {
            settings.insert(key.to_owned(), value);
        }
    }
    let mut settings = Settings::new();
    // These types have no key that is not a string and nothing else that JSON cannot say.
    let value = serde_json::to_value(section).unwrap_or_default();
    walk("", value, without, &mut settings);
    settings
}

#[cfg(test)]
mod tests;
