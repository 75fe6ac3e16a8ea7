//! That the reference says what is so: defaults and ranges are tried, key by key.

use std::fmt::Write as _;

use super::super::{
    Config,
    decode::{Absent, Form, Key, ROOT, Shape, kinds_of},
    reference,
};

/// What has to stand in a table, and beside a key, for the key to mean something.
fn beside(shape: &Shape, key: &str) -> String {
    let needs = match (shape.header, key) {
        ("[[service]]", "table_size") => "scheduler = \"maglev\"",
        ("[[service]]", "gue_port") => "forwarding = \"gue\"",
        ("[service.limits]", "burst") => "new_connections = 10",
        ("[service.limits]", "client_burst" | "client_prefix_v4" | "client_prefix_v6") => {
            "client_new_connections = 10"
        }
        ("[service.health]", "kind") | ("[service.health.agent]", "port") => "",
        ("[service.health.agent]", "keep" | "timeout") => "port = 1\ninterval = \"2s\"",
        ("[service.health.agent]", _) => "port = 1",
        ("[[alerts.webhook]]" | "[[alerts.alertmanager]]", key) if key != "url" => {
            "url = \"http://127.0.0.1:9093\""
        }
        ("[[alerts.exec]]", key) if key != "command" => "command = [\"/bin/true\"]",
        ("[announce]" | "[service.announce]", "command") => "way = \"hook\"",
        ("[announce]" | "[service.announce]", "user" | "timeout") => {
            "way = \"hook\"\ncommand = [\"/bin/true\"]"
        }
        ("[store]", "endpoints") => "kind = \"etcd\"",
        ("[store]", key) if key != "kind" => {
            "kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]"
        }
        ("[service.health]", _) => {
            return match *kinds_of(key).first().unwrap_or(&"tcp") {
                "grpc" if key != "tls" => "kind = \"grpc\"\ntls = true".to_owned(),
                "udp" if !key.starts_with("send") => "kind = \"udp\"\nsend = \"a\"".to_owned(),
                "exec" if key != "command" => {
                    "kind = \"exec\"\ncommand = [\"/bin/true\"]".to_owned()
                }
                kind => format!("kind = \"{kind}\""),
            };
        }
        _ => "",
    };
    needs.to_owned()
}

/// A text in which every table has what it needs, and the one of `shape` these lines, too.
fn text(shape: &Shape, lines: &str) -> String {
    const NODE: (&str, &str) = ("[node]", "interfaces = [\"eth0\"]");
    const SERVICE: (&str, &str) = ("[[service]]", "name = \"web\"\naddress = \"192.0.2.10:80\"");
    const BACKEND: (&str, &str) =
        ("[[service.backend]]", "name = \"web-01\"\naddress = \"10.0.0.11:80\"");
    let own = (shape.header, "");
    let tables = match shape.header {
        "[node]" | "[[service]]" | "[[service.backend]]" => vec![NODE, SERVICE, BACKEND],
        "[service.health.agent]" => {
            vec![NODE, SERVICE, ("[service.health]", "kind = \"tcp\""), own, BACKEND]
        }
        nested if nested.starts_with("[service.") => vec![NODE, SERVICE, own, BACKEND],
        _ => vec![NODE, own, SERVICE, BACKEND],
    };
    let mut text = String::new();
    for (header, needed) in tables {
        let own = if header == shape.header { lines } else { "" };
        // Who writes a needed line writes it instead.
        let key = |line: &str| line.split(' ').next().map(str::to_owned);
        let needed = needed.lines().filter(|line| own.lines().all(|own| key(own) != key(line)));
        let _ = writeln!(text, "{header}\n{}\n{own}", needed.collect::<Vec<_>>().join("\n"));
    }
    text
}

/// Every key with its table, the tables' own left out.
fn keys(shape: &'static Shape) -> Vec<(&'static Shape, &'static Key)> {
    let mut found = Vec::new();
    for key in shape.keys {
        match key.form {
            Form::Table(inner) | Form::Tables(inner) => found.extend(keys(inner)),
            _ => found.push((shape, key)),
        }
    }
    found
}

fn with(shape: &Shape, key: &Key, value: &str) -> Result<Config, String> {
    let own = if value.is_empty() { String::new() } else { format!("{} = {value}", key.name) };
    let text = text(shape, &format!("{}\n{own}", beside(shape, key.name)));
    let loaded = Config::parse_text(&text).map_err(|error| format!("{error}\n{text}"))?;
    Ok(loaded.config)
}

#[test]
fn every_default_is_what_comes_of_leaving_the_key_out() {
    let mut tried = 0;
    for (shape, key) in keys(&ROOT) {
        let name = format!("{} {}", shape.header, key.name);
        match key.absent {
            Absent::Is(value) => {
                let (without, written) = (with(shape, key, ""), with(shape, key, value));
                assert_eq!(without, written, "{name}: the default is not {value}");
                assert!(without.is_ok(), "{name}: {without:?}");
                tried += 1;
            }
            Absent::Refused => {
                // The tables that every text needs bring theirs along.
                let brought = shape.header == "[node]" || shape.header.starts_with("[[service");
                let missing = with(shape, key, "");
                assert!(brought || missing.is_err(), "{name} is not required: {missing:?}");
            }
            Absent::Means(_) => {
                if let Form::Integer(least, most) = key.form {
                    let value = most.min(least.max(7)).to_string();
                    assert_ne!(with(shape, key, ""), with(shape, key, &value), "{name}");
                }
            }
        }
    }
    assert!(tried > 40, "only {tried} defaults were tried");
}

#[test]
fn every_range_is_the_one_that_is_taken() {
    for (shape, key) in keys(&ROOT) {
        let name = format!("{} {}", shape.header, key.name);
        let (within, beyond): (Vec<String>, Vec<String>) = match key.form {
            Form::Integer(least, most) => {
                let beyond = [i64::from(least) - 1, i64::from(most) + 1];
                (vec![], beyond.map(|value| value.to_string()).to_vec())
            }
            Form::Decimal(least, most) => {
                let quoted = |value: f64| format!("{value:?}");
                (vec![quoted(least), quoted(most)], vec![quoted(least - 0.5), quoted(most + 0.5)])
            }
            Form::Duration(least, most) => {
                let quoted = |nanos: u128| format!("\"{nanos}ns\"");
                let (least, most) = (least.as_nanos(), most.as_nanos());
                let below = least.checked_sub(1).map(quoted);
                (vec![], below.into_iter().chain([quoted(most + 1)]).collect())
            }
            Form::Choice(names) => {
                let quoted = names().into_iter().map(|name| format!("\"{name}\"")).collect();
                // A probe of most kinds needs more than its kind, as a hook does.
                let within = if matches!(key.name, "kind" | "way") { vec![] } else { quoted };
                (within, vec!["\"another\"".to_owned()])
            }
            Form::Boolean => (vec!["true".into(), "false".into()], vec!["1".into()]),
            _ => continue,
        };
        for value in within {
            if let Err(error) = with(shape, key, &value) {
                panic!("{name} does not take {value}: {error}");
            }
        }
        for value in beyond {
            let error = with(shape, key, &value).expect_err(&format!("{name} takes {value}"));
            assert!(error.contains(key.name), "{name} = {value}: {error}");
        }
    }
}

#[test]
fn every_key_and_every_table_is_on_the_page() {
    let page = reference();
    for (shape, key) in keys(&ROOT) {
        let heading = format!("\n## `{}`\n", shape.header);
        let part = page.split(&heading).nth(1).unwrap_or_else(|| panic!("no {heading}"));
        let part = part.split("\n## ").next().unwrap_or_default();
        assert!(part.contains(&format!("| `{}` |", key.name)), "{} {}", shape.header, key.name);
        assert!(!key.meaning.ends_with('.') && !key.meaning.contains('|'), "{}", key.meaning);
    }
}
