//! `[verify]`, and the loads that a verification is told of.

use super::{invalid::assert_error, parse, with};
use crate::config::{Severity, Verify};

#[test]
fn defaults_and_every_key() {
    assert_eq!(parse(&with("", "")).unwrap().config.verify, Verify::default());
    let text = "[verify]\nconnections = 5_000\nmax_over_fair = 1.05\nmax_variation = 0.5\n\
                min_p = 1e-4\nsurvive = 0\n";
    let verify = parse(&format!("{}{text}", with("", ""))).unwrap().config.verify;
    assert_eq!((verify.connections, verify.survive), (5_000, 0));
    let numbers = [Some(verify.max_over_fair), verify.max_variation, verify.min_p];
    assert_eq!(numbers.map(|number| number.unwrap().to_string()), ["1.05", "0.5", "0.0001"]);

    let config = parse(&with("expected_connections = 9", "capacity = 7")).unwrap().config;
    let service = &config.services[0];
    assert_eq!(service.expected_connections, Some(9));
    assert_eq!((service.backends[0].capacity, service.backends[1].capacity), (None, Some(7)));
}

#[test]
fn what_is_wrong_is_told() {
    for (line, fragments) in [
        ("conections = 1000", &["unknown key", "did you mean \"connections\"?"][..]),
        ("connections = 99", &["is 99, out of range", "use 100 to 10000000"]),
        ("max_over_fair = 0.5", &["max_over_fair in [verify] is 0.5, out of range", "use 1 to"]),
        ("max_over_fair = \"1.1\"", &["must be a number, not a string"]),
        ("max_over_fair = nan", &["is nan, out of range"]),
        ("min_p = 2", &["min_p in [verify] is 2, out of range", "use 0 to 1"]),
        ("max_variation = -0.1", &["out of range"]),
        ("survive = 2", &["is 2, out of range", "use 0 to 1"]),
    ] {
        let text = format!("[node]\ninterfaces = [\"eth0\"]\n[verify]\n{line}\n");
        assert_error(&text, 4, fragments);
    }
    assert_error(&with("", "capacity = 0"), 13, &["capacity of backend \"web-02\" is 0"]);
    assert_error(&with("expected_connections = 0", ""), 6, &["expected_connections of service"]);
}

#[test]
fn a_maximum_above_the_capacity_is_warned_about() {
    let warnings = |lines: &str| -> usize {
        let loaded = parse(&with("", lines)).unwrap();
        let about = |w: &&crate::config::Diagnostic| {
            w.severity == Severity::Warning && w.message.contains("more than its capacity of 5")
        };
        loaded.warnings.iter().filter(about).count()
    };
    assert_eq!(warnings("capacity = 5\nmax_connections = 6"), 1);
    assert_eq!(warnings("capacity = 5\nmax_connections = 5"), 0);
    assert_eq!(warnings("capacity = 5"), 0);
}
