//! `cargo xtask deb`: a Debian package with the binary, its unit, a default configuration, manual pages
//! and completions.
//!
//! What is in it is said by `[package.metadata.deb]` of `lb-user`; here is made what is not in the tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::{build, host, setup, workspace};

/// The release of `cargo-deb` that is known to understand our metadata.
const CARGO_DEB: &str = "3.8.0";
/// Completions: the shell, and the file's name.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "evenkeel.bash"), ("zsh", "_evenkeel"), ("fish", "evenkeel.fish")];

/// How the package is made.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Package the debug build, as the tests do: not optimised, and lightly compressed.
    #[arg(long)]
    debug: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let package = package(&workspace::shell()?, options.debug)?;
    println!("{}", package.display());
    Ok(())
}

/// Builds the package and says where it is.
pub(crate) fn package(shell: &Shell, debug: bool) -> Result<PathBuf> {
    ensure!(
        host::has_program("dpkg-shlibdeps"),
        "a package cannot be made without dpkg-shlibdeps: `apt-get install dpkg-dev`"
    );
    ensure_cargo_deb(shell)?;
    // The whole workspace, as everywhere: of one package alone other features are asked for, and all of it
    // would be built anew.
    build::workspace_members(shell, !debug)?;
    let target = workspace::target_directory(shell)?;
    let built = target.join(if debug { "debug" } else { "release" });
    generate(shell, &built)?;

    let output = target.join("debian");
    let name = if debug { "evenkeel-debug.deb" } else { "evenkeel.deb" };
    let package = output.join(name);
    let quick: &[&str] = if debug { &["--profile", "dev", "--fast"] } else { &[] };
    workspace::cargo(shell)
        .args(["deb", "--package", "lb-user", "--no-build", "--strip", "--output"])
        .arg(&package)
        .args(quick)
        .run()
        .context("make the package")?;
    Ok(package)
}

/// Writes what the binary says of itself, and the changelog, into `deb` beside the binary.
fn generate(shell: &Shell, built: &Path) -> Result<()> {
    let (binary, directory) = (built.join("evenkeel"), built.join("deb"));
    let man = directory.join("man");
    // A page of a command that is no more would stay.
    if man.exists() {
        fs::remove_dir_all(&man)?;
    }
    fs::create_dir_all(&man)?;
    cmd!(shell, "{binary} man {man}").quiet().run().context("write manual pages")?;
    let mut pages = fs::read_dir(&man)?.map(|page| Ok(page?.path())).collect::<Result<Vec<_>>>()?;
    pages.sort();
    // cargo-deb compresses them too, but not when it packs quickly.
    cmd!(shell, "gzip -9n {pages...}").quiet().run().context("compress manual pages")?;
    for (from, to) in COMPLETIONS {
        let text = cmd!(shell, "{binary} completions {from}").quiet().output()?.stdout;
        fs::write(directory.join(to), text)?;
    }
    changelog(shell, &directory).context("write the package's changelog")
}

/// A changelog in Debian's form. It tells the version; what is new stands in CHANGELOG.md.
fn changelog(shell: &Shell, directory: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    // The time of the last commit, so that the same tree makes the same package.
    let date = cmd!(shell, "git log -1 --format=%cD").quiet().ignore_stderr().read();
    let date = date.unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned());
    let text = format!(
        "evenkeel ({version}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n \
         -- Evenkeel maintainers <root@localhost>  {date}\n"
    );
    let path = directory.join("changelog.Debian");
    fs::write(&path, text)?;
    cmd!(shell, "gzip -9nf {path}").quiet().run()?;
    Ok(())
}

/// Installs `cargo deb`, not optimised: it takes a third of the time, and packs once.
fn ensure_cargo_deb(shell: &Shell) -> Result<()> {
    if workspace::has_subcommand(shell, "deb") {
        return Ok(());
    }
    eprintln!("building cargo-deb; this takes a minute");
    workspace::cargo(shell)
        .args(["install", "cargo-deb", "--version", CARGO_DEB, "--locked", "--debug"])
        .args(["--no-default-features", "--config", "profile.dev.debug=0"])
        .run()
        .with_context(|| {
            format!(
                "install cargo-deb; by hand: cargo install cargo-deb --version {CARGO_DEB} --locked"
            )
        })
}
