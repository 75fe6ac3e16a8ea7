//! `[store]`.

use std::{fs, time::Duration};

use super::*;
use crate::config::{Store, store::Login};

fn text(store: &str) -> String {
    format!("[node]\ninterfaces = [\"eth0\"]\n{store}\n")
}

fn store(text_of_it: &str) -> Option<Store> {
    Config::parse_text(&text(text_of_it)).unwrap().config.store
}

#[test]
fn the_file_is_the_default() {
    assert_eq!(store(""), None);
    assert_eq!(store("[store]"), None);
    assert_eq!(store("[store]\nkind = \"file\""), None);
}

#[test]
fn etcd_needs_its_members_and_nothing_else() {
    let found = store("[store]\nkind = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379/\"]").unwrap();
    assert_eq!(found.endpoints, ["http://10.0.0.1:2379"]);
    assert_eq!((found.prefix.as_str(), found.timeout), ("/evenkeel", Duration::from_secs(5)));
    assert!(!found.edge().is_empty());
    let found = store(
        "[store]\nkind = \"etcd\"\nendpoints = [\"https://etcd.internal:2379\"]\nprefix = \"/lb/one/\"\n\
         edge = \"edge-1\"\nuser = \"lb\"\npassword_file = \"secret\"\ntimeout = \"1s\"",
    )
    .unwrap();
    assert_eq!((found.prefix.as_str(), found.edge().as_str()), ("/lb/one", "edge-1"));
    let login = Login { user: "lb".into(), password_file: "secret".into() };
    assert_eq!(found.login, Some(login));
}

#[test]
fn what_cannot_work_is_told() {
    let etcd = "[store]\nkind = \"etcd\"\n";
    let plain = "endpoints = [\"http://10.0.0.1:2379\"]\n";
    for (part, says) in [
        ("[store]\nkind = \"consul\"".to_owned(), "consul"),
        ("[store]\nprefix = \"/a\"".to_owned(), "means nothing to the kind \"file\""),
        (etcd.to_owned(), "has no endpoints"),
        (format!("{etcd}endpoints = []"), "endpoints in [store] is empty"),
        (format!("{etcd}endpoints = [\"10.0.0.1:2379\"]"), "no address of an etcd member"),
        (format!("{etcd}endpoints = [\"http://10.0.0.1\"]"), "no address of an etcd member"),
        (format!("{etcd}endpoints = [\"http://a:1\", \"https://b:1\"]"), "partly https://"),
        (format!("{etcd}{plain}prefix = \"a\""), "cannot begin keys"),
        (format!("{etcd}{plain}prefix = \"/a//b\""), "cannot begin keys"),
        (format!("{etcd}{plain}edge = \"a b\""), "cannot be a name"),
        (format!("{etcd}{plain}user = \"lb\""), "user in [store] needs password_file"),
        (format!("{etcd}{plain}key_file = \"k\""), "key_file in [store] needs certificate_file"),
        (format!("{etcd}{plain}ca_file = \"k\""), "means nothing to endpoints of http://"),
        (format!("{etcd}{plain}timeout = \"2h\""), "timeout"),
    ] {
        let invalid = Config::parse_text(&text(&part)).unwrap_err();
        let found = invalid.diagnostics.iter().any(|found| found.message.contains(says));
        assert!(found, "{part}: {:?}", invalid.diagnostics);
    }
}

#[test]
fn files_must_be_there_and_a_password_in_clear_text_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    let part = "[store]\nkind = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379\"]\nuser = \"lb\"\n\
                password_file = \"secret\"";
    fs::write(&path, text(part)).unwrap();
    let invalid = Config::load(&path).unwrap_err();
    assert!(invalid.diagnostics.iter().any(|found| found.message.contains("no file")));
    fs::write(directory.path().join("secret"), "s\n").unwrap();
    let loaded = Config::load(&path).unwrap();
    assert!(loaded.warnings.iter().any(|found| found.message.contains("clear text")));
    let login = loaded.config.store.unwrap().login.unwrap();
    assert_eq!(login.password_file, directory.path().join("secret"));
}
