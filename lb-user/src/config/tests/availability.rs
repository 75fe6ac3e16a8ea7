//! What happens when backends fail and return.

use std::time::Duration;

use super::{invalid::assert_error, parse, with};
use crate::config::{Availability, OnAllDown, OnDown, Passive, Tier};

fn availability(lines: &str) -> Availability {
    let loaded = parse(&with(lines, "")).unwrap_or_else(|error| panic!("{error}"));
    loaded.config.services[0].availability
}

#[test]
fn all_of_it_is_read() {
    let read = availability(
        "min_active = 2\non_all_down = \"keep\"\non_down = \"reset\"\nslow_start = \"30s\"\n\
         passive = { failures = 9, eject_for = \"1m\", keep = 1 }",
    );
    let passive = Passive { failures: 9, eject_for: Duration::from_mins(1), keep: Some(1) };
    assert_eq!(
        read,
        Availability {
            min_active: 2,
            on_all_down: OnAllDown::Keep,
            on_down: OnDown::Reset,
            slow_start: Some(Duration::from_secs(30)),
            passive: Some(passive),
        }
    );
    assert_eq!(availability(""), Availability::default());
    assert_eq!(availability("passive = { enabled = false }").passive, None);
}

#[test]
fn passive_health_needs_both_directions_and_a_protocol_that_refuses() {
    assert_eq!(availability("protocol = \"udp\"").passive, None);
    assert_eq!(availability("forwarding = \"gue\"").passive, None);
    assert_eq!(availability("protocol = \"udp\"\npassive = { enabled = false }").passive, None);
    let udp = with("protocol = \"udp\"\npassive = { failures = 3 }", "");
    assert_error(
        &udp,
        7,
        &["[service.passive] of service \"web\" sees nothing", "nobody is refused"],
    );
    let gue = with("forwarding = \"gue\"\npassive = { failures = 3 }", "");
    assert_error(&gue, 7, &["sees nothing", "answers do not pass here"]);
    let wrong = with("passive = { failures = 0 }", "");
    assert_error(&wrong, 6, &["failures of the passive health of service \"web\" is 0"]);
    let unknown = with("passive = { failure = 1 }", "");
    assert_error(&unknown, 6, &["did you mean \"failures\"?"]);
}

#[test]
fn tiers_that_make_no_sense_are_told() {
    let backup = parse(&with("", "tier = \"backup\"")).unwrap();
    assert_eq!(backup.config.services[0].backends[1].tier, Tier::Backup);
    let warns = |text: &str, fragment: &str| {
        let warnings = parse(text).unwrap().warnings;
        let found = warnings.iter().any(|warning| warning.message.contains(fragment));
        assert!(found, "{fragment}: {warnings:?}");
    };
    warns(&with("min_active = 2", "tier = \"backup\""), "its backups are always in");
    let both = with("", "tier = \"backup\"");
    let both = both.replacen("name = \"web-01\"", "name = \"web-01\"\ntier = \"backup\"", 1);
    warns(&both, "every backend of service \"web\" is a backup");
}
