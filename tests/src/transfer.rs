//! Large files by curl, in either direction, and whether they arrived whole.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::netns::{Namespace, succeeded};

/// Downloads `path` from `server` into the file `copy`.
pub fn download(client: &Namespace, server: SocketAddr, path: &str, copy: &Path) -> Result<()> {
    let mut curl = curl(client);
    curl.arg("--output").arg(copy).arg(format!("http://{server}{path}"));
    run(curl)
}

/// Uploads `file` to `/put/NAME` of `server`.
pub fn upload(client: &Namespace, server: SocketAddr, file: &Path, name: &str) -> Result<()> {
    let mut curl = curl(client);
    // Without the header curl would wait for the server's leave to send.
    curl.args(["--header", "Expect:", "--upload-file"]);
    curl.arg(file).arg(format!("http://{server}/put/{name}"));
    run(curl)
}

/// Fails if two files differ.
pub fn same(one: &Path, other: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let (left, right) = (read(one)?, read(other)?);
    ensure!(
        left == right,
        "{} ({} bytes) and {} ({} bytes) differ",
        one.display(),
        left.len(),
        other.display(),
        right.len()
    );
    Ok(())
}

fn curl(client: &Namespace) -> Command {
    let mut curl = client.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    curl
}

fn run(mut curl: Command) -> Result<()> {
    succeeded("curl", curl.output().context("run curl: is it installed?")?).map(drop)
}
