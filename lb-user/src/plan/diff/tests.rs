//! Of the diff: that it says all that changes, nothing else, and the shares as the weights have them.

use std::{fmt::Write as _, path::Path};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("evenkeel.toml")).unwrap().config
}

fn diff(old: &Config, new: &Config) -> Diff {
    let active = |_: &Service, _: &Backend| true;
    Diff::between(Side { config: old, active: &active }, Side { config: new, active: &active })
}

const BASE: &str = r#"[node]
interfaces = ["eth0"]
[[service]]
name = "web"
address = "192.0.2.10:80"
[service.health]
kind = "tcp"
[[service.backend]]
name = "web-01"
address = "10.0.0.11:8080"
[[service.backend]]
name = "web-02"
address = "10.0.0.12:8080"
"#;

#[test]
fn every_change_is_said_by_its_key_in_the_file() {
    let old = config(BASE);
    for (from, to, key, before, after) in [
        ("kind = \"tcp\"", "kind = \"none\"", "health.kind", json!("tcp"), json!("none")),
        (
            "kind = \"tcp\"",
            "kind = \"tcp\"\ninterval = \"5s\"",
            "health.interval",
            json!("2s"),
            json!("5s"),
        ),
        (
            "[service.health]",
            "scheduler = \"maglev\"\n[service.health]",
            "scheduler",
            json!("round-robin"),
            json!("maglev"),
        ),
        (
            "[service.health]",
            "allow = [\"10.0.0.0/8\"]\n[service.health]",
            "allow",
            Value::Null,
            json!(["10.0.0.0/8"]),
        ),
        (
            "[service.health]",
            "[service.limits]\nclient_new_connections = 5\nclient_burst = 7\n[service.health]",
            "limits.client_burst",
            Value::Null,
            json!(7),
        ),
        (":80\"", ":81\"", "address", json!("192.0.2.10:80"), json!("192.0.2.10:81")),
    ] {
        let diff = diff(&old, &config(&BASE.replacen(from, to, 1)));
        let service = &diff.services[0];
        assert_eq!((service.fate, diff.services.len()), (Fate::Changed, 1), "{to}");
        let expected = Setting { key: key.to_owned(), before, after };
        assert!(service.settings.contains(&expected), "{to}: {service:#?}");
    }
    let node = diff(&old, &config(&BASE.replace("\"eth0\"", "\"eth0\", \"eth1\"")));
    let keys: Vec<_> = node.needs_restart().map(|setting| setting.key.as_str()).collect();
    assert_eq!((keys.as_slice(), node.services.len()), (&["node.interfaces"][..], 0));
    let ports = format!("{BASE}[nat]\nsource_ports = \"2000-3000\"\n");
    let ports = diff(&old, &config(&ports));
    assert_eq!((ports.needs_restart().count(), &*ports.settings[0].key), (0, "nat.source_ports"));
}

#[test]
fn what_is_written_otherwise_is_no_change() {
    let written = BASE.replace("[service.health]", "protocol = \"tcp\" # so\n[service.health]");
    assert!(diff(&config(BASE), &config(&written)).is_empty());
}

#[test]
fn shares_follow_weights_and_who_is_active() {
    let old = config(BASE);
    let new = config(&format!(
        "{BASE}[[service.backend]]\nname = \"web-03\"\naddress = \"10.0.0.13:8080\"\nweight = 2\n"
    ));
    let backends = &diff(&old, &new).services[0].backends;
    let shares: Vec<_> =
        backends.iter().map(|b| (&*b.name, b.fate, b.share_before, b.share_after)).collect();
    let expected = [
        ("web-01", Fate::Kept, 0.5, 0.25),
        ("web-02", Fate::Kept, 0.5, 0.25),
        ("web-03", Fate::Added, 0.0, 0.5),
    ];
    assert_eq!(shares, expected);

    let up = |_: &Service, backend: &Backend| backend.name != "web-02";
    let sides = [&old, &new].map(|config| Side { config, active: &up });
    let backends = &Diff::between(sides[0], sides[1]).services[0].backends;
    assert!((backends[0].share_before - 1.0).abs() < 1e-9 && backends[1].share_after == 0.0);
    assert_eq!(diff(&old, &new).summary(), "1 backend added");
}

#[test]
fn long_lists_are_told_by_their_numbers() {
    let list = |count: usize| {
        let entries: Vec<_> = (0..count).map(|n| format!("\"10.{n}.0.0/16\"")).collect();
        config(&BASE.replace(
            "[service.health]",
            &format!("deny = [{}]\n[service.health]", entries.join(", ")),
        ))
    };
    let diff = diff(&list(100), &list(99));
    let setting = &diff.services[0].settings[0];
    assert_eq!(setting.before, json!("100 entries"));
    assert_eq!(setting.after, json!("99 entries (0 added, 1 removed)"));
}

/// A configuration of a few services with a few backends out of a few possible ones.
fn configs() -> impl Strategy<Value = Config> {
    let backend = (0_u8..4, 0_u8..2, 1_u16..4, prop::option::of(1_u32..3));
    let service = (0_u8..4, 80_u16..82, any::<bool>(), prop::collection::vec(backend, 0..4));
    (prop::collection::vec(service, 0..4), 1000_u16..1003).prop_map(|(services, low)| {
        let mut text =
            format!("[node]\ninterfaces = [\"eth0\"]\n[nat]\nsource_ports = \"{low}-30000\"\n");
        let mut named = BTreeSet::new();
        for (service, port, maglev, backends) in services {
            if !named.insert(service) {
                continue;
            }
            let (host, scheduler) = (service + 1, if maglev { "maglev" } else { "random" });
            let _ = writeln!(
                text,
                "[[service]]\nname = \"s{service}\"\naddress = \"192.0.2.{host}:{port}\"\n\
                 scheduler = \"{scheduler}\""
            );
            let mut named = BTreeSet::new();
            for (backend, host, weight, most) in backends {
                if !named.insert(backend) {
                    continue;
                }
                let _ = writeln!(
                    text,
                    "[[service.backend]]\nname = \"b{backend}\"\nweight = {weight}\n\
                     address = \"10.0.{host}.{}:80\"",
                    backend + 1
                );
                if let Some(most) = most {
                    let _ = writeln!(text, "max_connections = {most}");
                }
            }
        }
        config(&text)
    })
}

/// Every value of a configuration by where it stands.
fn values(config: &Config) -> BTreeMap<(String, String), Settings> {
    let mut values = BTreeMap::from([((String::new(), String::new()), settings_of(config))]);
    for service in &config.services {
        values.insert((service.name.clone(), String::new()), settings_of_service(service));
        for backend in &service.backends {
            let place = (service.name.clone(), backend.name.clone());
            values.insert(place, settings_of_backend(backend));
        }
    }
    values
}

fn follow(
    values: &mut BTreeMap<(String, String), Settings>,
    place: (String, String),
    fate: Fate,
    settings: &[Setting],
) {
    if fate == Fate::Removed {
        values.remove(&place);
        return;
    }
    let entry = values.entry(place).or_default();
    for Setting { key, before, after } in settings {
        assert_eq!(entry.get(key).unwrap_or(&Value::Null), before);
        if after.is_null() {
            entry.remove(key)
        } else {
            entry.insert(key.clone(), after.clone())
        };
    }
}

proptest! {
    #[test]
    fn nothing_changes_from_a_configuration_to_itself(config in configs()) {
        let diff = diff(&config, &config);
        prop_assert!(diff.is_empty(), "{:?}", diff);
        prop_assert_eq!(diff.summary(), "nothing changes");
    }

    /// Whoever does what the diff says comes from the one to the other, and shares add up.
    #[test]
    fn what_it_says_leads_from_one_to_the_other(old in configs(), new in configs()) {
        let diff = diff(&old, &new);
        let mut values_now = values(&old);
        follow(&mut values_now, (String::new(), String::new()), Fate::Kept, &diff.settings);
        for service in &diff.services {
            for backend in &service.backends {
                let place = (service.name.clone(), backend.name.clone());
                follow(&mut values_now, place, backend.fate, &backend.settings);
            }
            let place = (service.name.clone(), String::new());
            follow(&mut values_now, place, service.fate, &service.settings);
            let sum = |share: fn(&BackendDiff) -> f64| service.backends.iter().map(share).sum::<f64>();
            for sum in [sum(|backend| backend.share_before), sum(|backend| backend.share_after)] {
                prop_assert!(sum.abs() < 1e-9 || (sum - 1.0).abs() < 1e-9, "{}", sum);
            }
        }
        prop_assert_eq!(values_now, values(&new));
    }
}
