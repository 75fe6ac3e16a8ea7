//! Verdicts on runs that never ran.

use std::{fmt::Write as _, path::Path};

use super::*;
use crate::{
    plan::{self, Facts, Standing, Tables},
    verify::candidate::facts,
};

fn config(service: &str, backends: &[&str]) -> Config {
    let mut text = format!(
        "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
         address = \"192.0.2.10:80\"\n{service}\n"
    );
    for (n, lines) in (1..).zip(backends) {
        write!(
            text,
            "[[service.backend]]\nname = \"web-{n}\"\naddress = \"10.0.0.{n}:80\"\n{lines}\n"
        )
        .unwrap();
    }
    Config::parse(&text, Path::new("test.toml")).unwrap().config
}

fn tables(config: &Config, down: &[&str]) -> Tables {
    let mut facts: Facts = facts(config);
    for name in down {
        facts.standings.insert(("web".to_owned(), (*name).to_owned()), Standing::default());
    }
    plan::build(config, &facts, &Tables::default()).unwrap()
}

/// A run in which each backend got so many connections, each from a client of its own.
fn run(counts: &[u64]) -> Run {
    let sent = counts.iter().sum();
    let opened = (0..).map(BackendId).zip(counts.iter().copied()).collect();
    Run { sent, clients: sent, opened, ..Run::default() }
}

fn balance(config: &Config, counts: &[u64]) -> ServiceReport {
    let tables = tables(config, &[]);
    let members: Vec<_> = tables.backends.iter().map(|(id, entry)| (*id, entry)).collect();
    let judge = Judge { config, service: &config.services[0], verify: &config.verify };
    conclude(judge.balance(&members, &run(counts)))
}

fn without_first(config: &Config, counts: &[u64]) -> Failure {
    let tables = tables(config, &["web-1"]);
    let members: Vec<_> = tables.backends.iter().skip(1).map(|(id, entry)| (*id, entry)).collect();
    let judge = Judge { config, service: &config.services[0], verify: &config.verify };
    let counts: Vec<_> = std::iter::once(0).chain(counts.iter().copied()).collect();
    judge.failure("web-1", &members, &run(&counts), &Split::default())
}

fn kinds(problems: &[Problem]) -> Vec<(ProblemKind, Option<&str>)> {
    problems.iter().map(|problem| (problem.kind, problem.backend.as_deref())).collect()
}

#[test]
fn shares_by_weight_pass() {
    let report = balance(&config("", &["", "weight = 2", ""]), &[25_000, 50_000, 25_000]);
    assert!(report.passed, "{report:?}");
    let shares: Vec<_> = report.balance.backends.iter().map(|b| (b.share, b.over_fair)).collect();
    assert_eq!(shares, [(0.25, 1.0), (0.5, 1.0), (0.25, 1.0)]);
    assert_eq!(report.warnings, [] as [String; 0]);
}

#[test]
fn an_imbalance_names_the_backend() {
    let report = balance(&config("", &["", "", ""]), &[40_000, 30_000, 30_000]);
    assert!(!report.passed);
    assert_eq!(kinds(&report.problems), [(ProblemKind::Imbalance, Some("web-1"))]);
    assert!(report.problems[0].message.contains("1.200 of its fair share (40.00%"), "{report:?}");
}

#[test]
fn every_threshold_is_kept() {
    let text = "[verify]\nmax_over_fair = 2\nmax_variation = 0.1\nmin_p = 0.001\n[[service]]";
    let mut config = config("", &["", ""]);
    let verify = Config::parse(
        &format!(
            "[node]\ninterfaces = [\"eth0\"]\n{text}\nname = \"a\"\naddress = \"192.0.2.1:1\""
        ),
        Path::new("test.toml"),
    );
    config.verify = verify.unwrap().config.verify;
    let report = balance(&config, &[60_000, 40_000]);
    let wrong = [(ProblemKind::Variation, None), (ProblemKind::Chance, None)];
    assert_eq!(kinds(&report.problems), wrong);
    assert!(balance(&config, &[50_100, 49_900]).passed);
}

#[test]
fn few_clients_prove_nothing_and_that_is_said() {
    let config = config("scheduler = \"source-hash\"", &["", ""]);
    let report = balance(&config, &[12, 8]);
    assert!(report.passed);
    assert!(report.warnings[0].contains("--connections 5000 are enough"), "{report:?}");
}

#[test]
fn survivors_are_held_to_what_they_carry() {
    let three = ["capacity = 400", "capacity = 400", "capacity = 900"];
    let config = config("expected_connections = 1000", &three);
    let all = balance(&config, &[10_000, 10_000, 10_000]);
    assert!(all.passed, "{all:?}");
    assert_eq!(all.balance.can_carry, Some(1_200));
    let failure = without_first(&config, &[15_000, 15_000]);
    assert_eq!(kinds(&failure.problems), [(ProblemKind::Overload, Some("web-2"))]);
    let said = "would have 500 of the 1000 expected connections, and its capacity is 400";
    assert!(failure.problems[0].message.contains(said), "{failure:?}");
    assert_eq!(failure.split.can_carry, Some(800));
    assert_eq!(failure.split.backends[0].load, Some(500));

    let mut lax = config;
    lax.verify.survive = 0;
    assert!(without_first(&lax, &[15_000, 15_000]).passed);
}

#[test]
fn what_max_connections_turn_away_is_counted() {
    let most = ["max_connections = 400"; 3];
    let config = config("expected_connections = 1000", &most);
    assert!(balance(&config, &[10_000, 10_000, 10_000]).passed);
    let failure = without_first(&config, &[15_000, 15_000]);
    assert_eq!(kinds(&failure.problems), [(ProblemKind::Overload, None)]);
    assert!(failure.problems[0].message.contains("200 of the 1000 expected"), "{failure:?}");
}

#[test]
fn source_ports_run_out() {
    let config = config("expected_connections = 50000", &["", ""]);
    assert!(balance(&config, &[10_000, 10_000]).passed);
    let failure = without_first(&config, &[20_000]);
    assert_eq!(kinds(&failure.problems), [(ProblemKind::Overload, Some("web-2"))]);
    assert!(
        failure.problems[0].message.contains("source ports towards it are 31744"),
        "{failure:?}"
    );
}

#[test]
fn the_last_one_is_missed_where_a_load_is_stated() {
    let stated = config("expected_connections = 10", &[""]);
    assert_eq!(kinds(&without_first(&stated, &[]).problems), [(ProblemKind::Overload, None)]);
    let silent = config("", &[""]);
    assert!(without_first(&silent, &[]).passed);
    assert!(balance(&silent, &[1_000]).warnings[0].contains("nobody takes over"));
}

#[test]
fn refused_connections_fail_by_name() {
    let config = config("", &["", ""]);
    let tables = tables(&config, &[]);
    let members: Vec<_> = tables.backends.iter().map(|(id, entry)| (*id, entry)).collect();
    let judge = Judge { config: &config, service: &config.services[0], verify: &config.verify };
    let refused = [("drop-table-full".to_owned(), 5)].into();
    let report = judge.balance(&members, &Run { refused, ..run(&[500, 500]) });
    assert_eq!(kinds(&report.problems), [(ProblemKind::Refused, None)]);
    assert!(report.problems[0].message.contains("5 drop-table-full"), "{report:?}");
    let nobody = judge.balance(&members, &Run::default());
    assert!(nobody.problems.iter().any(|p| p.message.contains("let no client in")), "{nobody:?}");
}

#[test]
fn the_table_has_to_hold_what_is_expected() {
    let mut config = config("expected_connections = 1000", &["", ""]);
    assert_eq!(host(&config), []);
    config.tables.connections = 999;
    let problems = host(&config);
    assert_eq!(kinds(&problems), [(ProblemKind::Table, None)]);
    assert!(problems[0].message.contains("IPv4 services expect 1000"), "{problems:?}");
}
