//! `[alerts]`.

use std::time::Duration;

use super::*;
use crate::config::alerts::Alerts;

fn text(alerts: &str) -> String {
    format!("[node]\ninterfaces = [\"eth0\"]\n{alerts}")
}

#[test]
fn nothing_said_is_the_defaults() {
    let config = Config::parse_text(&text("")).unwrap().config;
    assert_eq!(config.alerts, Alerts::default());
    assert!(config.alerts.imbalance.get() > 1.2 && config.alerts.webhooks.is_empty());
}

#[test]
fn all_of_it() {
    let config = Config::parse_text(&text(
        "[alerts]\nplaybook = \"https://wiki.example/lb/\"\nraise_after = \"1s\"\nclear_after = \"2s\"\n\
         recent = \"5m\"\nlately = \"1m\"\nreminder = \"2h\"\nimbalance = 1.5\nfailures = 0.1\nhandshakes = 8\nflaps = 5\n\
         table_fill = 0.9\nlate = \"2s\"\n\
         [[alerts.webhook]]\nurl = \"https://alerts.example/hook\"\nheaders = [\"X-Scope: edge\"]\n\
         bearer_token_file = \"token\"\nsend_resolved = false\ntimeout = \"3s\"\n\
         [[alerts.alertmanager]]\nurl = \"http://127.0.0.1:9093\"\nrepeat = \"30s\"\n\
         [[alerts.exec]]\ncommand = [\"/usr/local/bin/notify\", \"now\"]\nuser = \"nobody\"\n",
    ));
    let alerts = config.unwrap().config.alerts;
    assert_eq!(alerts.playbook.as_deref(), Some("https://wiki.example/lb/"));
    assert_eq!(alerts.raise_after, Some(Duration::from_secs(1)));
    assert_eq!(alerts.lately, Duration::from_mins(1));
    assert_eq!((alerts.flaps, alerts.reminder), (5, Duration::from_hours(2)));
    let webhook = &alerts.webhooks[0];
    assert_eq!(webhook.endpoint.headers, [("X-Scope".to_owned(), "edge".to_owned())]);
    assert!(!webhook.send_resolved && webhook.endpoint.timeout == Duration::from_secs(3));
    assert_eq!(alerts.alertmanagers[0].repeat, Duration::from_secs(30));
    assert_eq!(alerts.programs[0].exec.command, ["/usr/local/bin/notify", "now"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let invalid = Config::parse_text(&text(
        "[alerts]\nimbalence = 1.5\nfailures = 2\nplaybook = \"wiki\"\nraise_after = 5\n\
         [[alerts.webhook]]\nurll = \"https://a.example\"\n\
         [[alerts.webhook]]\nurl = \"ftp://a.example\"\nheaders = [\"no header\"]\nverify = false\n\
         ca_file = \"ca.pem\"\n\
         [[alerts.alertmanager]]\nurl = \"http://127.0.0.1:9093\"\nrepeat = \"2h\"\n\
         [[alerts.exec]]\ncommand = [\"notify\"]\n",
    ));
    let text = invalid.unwrap_err().to_string();
    for expected in [
        "unknown key \"imbalence\"",
        "did you mean \"imbalance\"?",
        "failures in [alerts] is 2, out of range",
        "playbook in [alerts] is \"wiki\", no address of a web server",
        "raise_after in [alerts] must be a duration in quotes",
        "did you mean \"url\"?",
        "[[alerts.webhook]] has no url",
        "url in [[alerts.webhook]] is \"ftp://a.example\"",
        "an entry of headers in [[alerts.webhook]] is \"no header\"",
        "ca_file in [[alerts.webhook]] means nothing with verify = false",
        "repeat in [[alerts.alertmanager]] is \"2h\", out of range",
        "command in [[alerts.exec]] is \"notify\", not an absolute path",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}
