//! `cargo xtask test`: all tests, with the programs that they drive.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::{build, deb, host, setup, workspace};

/// The programs that tests start, and the packages that bring them: the first that exists is taken.
const PROGRAMS: [(&str, &[&str]); 24] = [
    ("nginx", &["nginx-light", "nginx"]),
    ("wrk", &["wrk"]),
    ("curl", &["curl"]),
    ("ip", &["iproute2"]),
    ("ethtool", &["ethtool"]),
    ("faketime", &["faketime"]),
    // Ubuntu ships it with its kernel's tools.
    ("bpftool", &["bpftool", "linux-tools-generic"]),
    // A host of its own runs the unit.
    ("systemctl", &["systemd"]),
    ("capsh", &["libcap2-bin"]),
    // The package is made, installed and read.
    ("dpkg-shlibdeps", &["dpkg-dev"]),
    ("addgroup", &["adduser"]),
    ("man", &["man-db"]),
    // The dashboard is looked at.
    ("chromium", &["chromium"]),
    ("node", &["nodejs"]),
    // `top` is typed at and looked at.
    ("tmux", &["tmux"]),
    // It checks and tries the alert rules.
    ("promtool", &["prometheus"]),
    // Alerts are posted to it; it brings amtool, too.
    ("prometheus-alertmanager", &["prometheus-alertmanager"]),
    // They tell routers what the edges announce, and move its address.
    ("bird", &["bird2"]),
    ("vtysh", &["frr"]),
    ("exabgp", &["exabgp"]),
    ("keepalived", &["keepalived"]),
    // Edges share their configuration by it.
    ("etcd", &["etcd-server"]),
    ("etcdctl", &["etcd-client"]),
    // It names backends.
    ("nsd", &["nsd"]),
];

/// Programs whose packages bring a service that starts by itself, and that service.
const SERVICES: [(&str, &str); 9] = [
    ("nginx", "nginx"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("bird", "bird"),
    ("vtysh", "frr"),
    ("exabgp", "exabgp"),
    ("keepalived", "keepalived"),
    ("etcd", "etcd"),
    ("nsd", "nsd"),
];

/// Parts of the names of tests that install the package.
const PACKAGED: [&str; 2] = ["package", "systemd"];

pub(crate) fn run(filters: &[String]) -> Result<()> {
    host::require_root("the tests", "test")?;
    setup::ensure()?;
    let shell = workspace::shell()?;
    ensure_programs(&shell)?;
    host::ensure_bpffs(&shell)?;
    // The tests start the binary of another package, which testing alone would not build.
    build::workspace_members(&shell, false)?;
    build::next_version(&shell)?;
    if filters.is_empty()
        || filters.iter().any(|filter| PACKAGED.iter().any(|test| filter.contains(test)))
    {
        deb::package(&shell, true)?;
    }

    let cargo = || workspace::cargo(&shell);
    if !workspace::has_subcommand(&shell, "nextest") {
        let tests = cargo().args(["test", "--workspace", "--"]).args(filters);
        return tests.run().context("some tests failed");
    }
    // nextest leaves out the examples in the documentation.
    if filters.is_empty() {
        let examples = cargo().args(["test", "--quiet", "--workspace", "--doc"]);
        examples.run().context("some examples in the documentation failed")?;
    }
    let tests = cargo().args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(filters);
    tests.run().context("some tests failed")
}

/// Installs the programs that are missing, or says which packages to install.
pub(crate) fn ensure_programs(shell: &Shell) -> Result<()> {
    ensure_some(shell, "the tests", |_| true)
}

/// The same for the programs that `user` wants of those that the tests drive.
pub(crate) fn ensure_some(shell: &Shell, user: &str, wants: impl Fn(&str) -> bool) -> Result<()> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| wants(program) && !host::has_program(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !host::can_install() {
        let names: Vec<_> = missing
            .iter()
            .map(|(program, packages)| format!("{program} (package {})", packages[0]))
            .collect();
        bail!("{user} cannot run without programs to be installed: {}", names.join(", "));
    }
    host::ensure_lists(shell)?;
    let packages: Vec<_> = missing
        .iter()
        .map(|(_, packages)| {
            let available = packages.iter().find(|package| host::is_available(shell, package));
            *available.unwrap_or(&packages[0])
        })
        .collect();
    eprintln!("installing for {user}: {}", packages.join(" "));
    host::install_without_starting(shell, &packages)?;

    // Nor shall they start with this host; the tests start their own.
    let services = SERVICES.iter().filter(|(program, _)| missing.iter().any(|(p, _)| p == program));
    for (_, service) in services.filter(|_| Path::new("/run/systemd/system").is_dir()) {
        cmd!(shell, "systemctl disable {service}")
            .run()
            .with_context(|| format!("keep the service {service} from starting with this host"))?;
    }
    Ok(())
}
