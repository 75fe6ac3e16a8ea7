//! The command line of `evenkeel decap`: what it refuses, and how it says so.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
};

use evenkeel_tests::netns::Namespace;

/// The binary under test: `EVENKEEL_BIN`, or what `cargo build` put beside this executable.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("EVENKEEL_BIN") {
        return path.into();
    }
    let own = env::current_exe().unwrap();
    let mut beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("evenkeel"));
    beside.find(|path| path.is_file()).expect("run `cargo build`, or set EVENKEEL_BIN")
}

const GOOD: [&str; 6] = ["--interface", "lo", "--address", "192.0.2.10", "--from", "198.18.0.0/16"];

fn refused(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).arg("decap").args(arguments).output().unwrap();
    told(&output)
}

fn told(output: &Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "errors go to stderr");
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn what_is_missing_is_named() {
    for (at, flag) in [(0, "--interface"), (2, "--address"), (4, "--from")] {
        let mut arguments = GOOD.to_vec();
        arguments.drain(at..at + 2);
        let (code, error) = refused(&arguments);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(flag), "{error}");
        let others = ["--interface <", "--address <", "--from <"];
        let named = others.into_iter().filter(|other| {
            error.lines().any(|line| line.trim().starts_with(other.trim_end_matches(" <")))
        });
        assert_eq!(named.count(), 1, "only what is missing: {error}");
    }
}

#[test]
fn a_value_that_cannot_be_is_named_with_its_flag_and_the_way_out() {
    for (flag, value, told) in [
        ("--address", "192.0.2.10/32", "write it like 192.0.2.10"),
        ("--address", "0.0.0.0", "unspecified"),
        ("--from", "198.18.0.1/16", "write 198.18.0.0/16"),
        ("--from", "edges", "write it like 198.18.0.0/16"),
        ("--gue-port", "0", "1..=65535"),
        ("--gue-port", "gue", "gue"),
        ("--xdp-mode", "fast", "auto, native, generic"),
        ("--counters", "often", "write it like 10s"),
        ("--counters", "1ms", "1s to 1d"),
        ("--output", "yaml", "json"),
    ] {
        let mut arguments = GOOD.to_vec();
        arguments.extend([flag, value]);
        let (code, error) = refused(&arguments);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(flag), "{flag} {value}: {error}");
        assert!(error.contains(value), "{flag} {value}: {error}");
        assert!(error.contains(told), "{flag} {value}: {error}");
    }
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let namespace = Namespace::new("decap").unwrap();
    let mut command = namespace.command(binary());
    command.arg("decap").args(GOOD).args(["--interface", "eth7"]);
    let (code, error) = told(&command.output().unwrap());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("--interface eth7"), "{error}");
    assert!(error.contains("it has lo"), "{error}");
}

#[test]
fn native_alone_is_refused_where_the_driver_cannot() {
    let namespace = Namespace::new("decap").unwrap();
    namespace.ip("link add plain type bridge\nlink set plain up").unwrap();
    let mut command = namespace.command(binary());
    command.args(["decap", "--interface", "plain", "--xdp-mode", "native"]).args(&GOOD[2..]);
    let (code, error) = told(&command.output().unwrap());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("--interface plain"), "{error}");
    assert!(error.contains("--xdp-mode auto"), "the way out: {error}");
    assert!(error.contains("the driver does not support it"), "{error}");
}

#[test]
fn an_interface_with_another_program_is_left_alone() {
    let namespace = Namespace::new("decap").unwrap();
    namespace.ip("link add one type veth peer name two").unwrap();
    evenkeel_tests::xdp_pass::attach(&namespace, "one").unwrap();
    let mut command = namespace.command(binary());
    command.args(["decap", "--interface", "one"]).args(&GOOD[2..]);
    let (code, error) = told(&command.output().unwrap());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("--interface one"), "{error}");
    assert!(error.contains("another XDP program"), "{error}");
}
