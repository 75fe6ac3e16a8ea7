//! What holds for every text: parsing never panics, and an edit does what it says and no more.

use std::{collections::HashSet, path::Path};

use proptest::prelude::*;

use super::{COMMENTED, parse, texts as edit};
use crate::config::{
    BackendSpec, Config, EditError, HealthCheck, ProbeKind, Scheduler, Service, ServiceSpec, Tier,
};

/// Pieces that valid texts are made of, for mutations that get past the first line.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r\n",
    " ",
    "0",
    "-1",
    "1e9",
    "é",
    "\u{0}",
    "service",
    "[[service]]\n",
    "[service.health]\n",
    "kind = \"exec\"\n",
    "command = [\"/bin/true\"]\n",
    "[service.health.agent]\n",
    "verify = false\n",
    "flap_damping = false\n",
    "backend",
    "[[service.backend]]\n",
    "name = \"x\"\n",
    "weight = 0\n",
    "scheduler = \"maglev\"\n",
    "table_size = 7\n",
    "forwarding = \"gue\"\n",
    ":*",
    "[service.limits]\n",
    "burst = 5\n",
    "deny = [\"10.0.0.0/8\"]\n",
    "address",
    "[node]\n",
    "true",
    "1979-05-27",
    "99999999999999999999",
];

#[derive(Clone, Debug)]
enum Edit {
    AddService(u8, bool),
    RemoveService(u8),
    AddBackend(u8, u8, u16),
    RemoveBackend(u8, u8),
    SetWeight(u8, u8, u16),
    SetScheduler(u8, Scheduler),
}

fn edits() -> impl Strategy<Value = Edit> {
    let (service, backend) = (0..4_u8, 0..5_u8);
    prop_oneof![
        (service.clone(), any::<bool>()).prop_map(|(s, probed)| Edit::AddService(s, probed)),
        service.clone().prop_map(Edit::RemoveService),
        (service.clone(), backend.clone(), 1..9_u16)
            .prop_map(|(s, b, w)| Edit::AddBackend(s, b, w)),
        (service.clone(), backend.clone()).prop_map(|(s, b)| Edit::RemoveBackend(s, b)),
        (service.clone(), backend, 1..9_u16).prop_map(|(s, b, w)| Edit::SetWeight(s, b, w)),
        (service, prop::sample::select(&[Scheduler::RoundRobin, Scheduler::Maglev][..]))
            .prop_map(|(s, scheduler)| Edit::SetScheduler(s, scheduler)),
    ]
}

fn service_name(n: u8) -> String {
    ["web", "dns", "mail", "git"][usize::from(n)].to_owned()
}

fn backend_name(n: u8) -> String {
    ["web-01", "web-02", "dns-01", "spare", "x"][usize::from(n)].to_owned()
}

/// Edits the text, and does the same to the values that it should mean.
fn apply(text: &str, config: &mut Config, edit: &Edit) -> Result<String, EditError> {
    match *edit {
        Edit::AddService(s, probed) => {
            let health = HealthCheck::of(ProbeKind::Tcp);
            let spec = ServiceSpec {
                health: if probed { health } else { HealthCheck::None },
                ..ServiceSpec::new(service_name(s), ([192, 0, 2, 100 + s], 80).into())
            };
            let edited = edit::add_service(text, &spec)?;
            let added = parse(&edited).unwrap().config.services.pop().unwrap();
            assert_eq!((&added.name, &added.health), (&spec.name, &spec.health));
            config.services.push(added);
            Ok(edited)
        }
        Edit::RemoveService(s) => {
            let edited = edit::remove_service(text, &service_name(s))?;
            config.services.retain(|service| service.name != service_name(s));
            Ok(edited)
        }
        Edit::AddBackend(s, b, weight) => {
            let address = ([10, 0, 1, b], 80).into();
            let spec = BackendSpec {
                name: backend_name(b),
                address,
                weight,
                tier: Tier::default(),
                max_connections: None,
            };
            let edited = edit::add_backend(text, &service_name(s), &spec)?;
            let added = parse(&edited).unwrap().config;
            let added = added.service(&service_name(s)).unwrap().backends.last().unwrap().clone();
            assert_eq!((&added.name, added.weight), (&spec.name, weight));
            let service = config.services.iter_mut().find(|x| x.name == service_name(s));
            service.unwrap().backends.push(added);
            Ok(edited)
        }
        Edit::RemoveBackend(s, b) => {
            let edited = edit::remove_backend(text, &service_name(s), &backend_name(b))?;
            let service = config.services.iter_mut().find(|x| x.name == service_name(s));
            service.unwrap().backends.retain(|backend| backend.name != backend_name(b));
            Ok(edited)
        }
        Edit::SetScheduler(s, scheduler) => {
            let size = scheduler.hashes().then_some(251);
            let edited = edit::set_scheduler(text, &service_name(s), scheduler, size)?;
            let service = config.services.iter_mut().find(|x| x.name == service_name(s)).unwrap();
            service.scheduler = scheduler;
            service.table_size = size.unwrap_or(Service::TABLE_SIZE);
            Ok(edited)
        }
        Edit::SetWeight(s, b, weight) => {
            let edited = edit::set_weight(text, &service_name(s), &backend_name(b), weight)?;
            let service = config.services.iter_mut().find(|x| x.name == service_name(s));
            let mut backends = service.unwrap().backends.iter_mut();
            backends.find(|backend| backend.name == backend_name(b)).unwrap().weight = weight;
            Ok(edited)
        }
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(
        mutations in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..20_usize, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = COMMENTED.chars().collect();
        for (at, removed, inserted) in mutations {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            // Whatever is valid can be edited, or says why not.
            Ok(_) => drop(edit::remove_backend(&text, "web", "web-01")),
            Err(invalid) => prop_assert!(!invalid.diagnostics.is_empty()),
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Config::parse(&text, Path::new("x"));
    }

    #[test]
    fn edits_mean_what_they_say(edits in prop::collection::vec(edits(), 1..12), crlf: bool) {
        let mut text = if crlf { COMMENTED.replace('\n', "\r\n") } else { COMMENTED.to_owned() };
        let mut config = parse(&text).unwrap().config;
        for edit in &edits {
            match apply(&text, &mut config, edit) {
                Ok(edited) => text = edited,
                Err(EditError::InvalidBefore(invalid) | EditError::InvalidAfter(invalid)) => {
                    return Err(TestCaseError::fail(format!("{edit:?}: {invalid}\n{text}")));
                }
                Err(_) => {}
            }
            prop_assert_eq!(&parse(&text).unwrap().config, &config, "{:?}\n{}", edit, text);
        }
        let comments: HashSet<&str> =
            text.lines().filter(|line| line.starts_with("# ---")).collect();
        let web_lives = config.service("web").is_some()
            && !edits.iter().any(|edit| matches!(edit, Edit::RemoveService(0)));
        prop_assert!(!web_lives || comments.len() == 1, "a banner was lost:\n{}", text);
        prop_assert!(text.contains("# Evenkeel on edge-1.") && text.contains("# The end."));
    }
}
