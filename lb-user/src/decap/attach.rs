//! Attaching the decapsulator. Its links are this process's own and not pinned: they end with it.

use std::{collections::BTreeSet, io};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{Xdp, XdpMode as Mode, links::FdLink};
use tracing::warn;

use crate::config::XdpMode;

/// Attaches the program to every interface. Dropping a link detaches it.
///
/// # Errors
///
/// Where an interface can be attached in no permitted mode.
pub fn attach(
    program: &mut Xdp,
    interfaces: &BTreeSet<String>,
    mode: XdpMode,
) -> Result<Vec<FdLink>> {
    interfaces.iter().map(|interface| attach_one(program, interface, mode)).collect()
}

fn attach_one(program: &mut Xdp, interface: &str, mode: XdpMode) -> Result<FdLink> {
    let native = match mode {
        XdpMode::Generic => Err(anyhow!("generic mode was asked for")),
        XdpMode::Auto | XdpMode::Native => attach_in(program, interface, Mode::Driver),
    };
    let why = match (native, mode) {
        (Ok(link), _) => return Ok(link),
        (Err(error), XdpMode::Native) => {
            return Err(error).with_context(|| {
                format!(
                    "--interface {interface}: attach in native mode; --xdp-mode auto accepts the \
                     slower generic mode"
                )
            });
        }
        (Err(error), _) => error,
    };
    let link = attach_in(program, interface, Mode::Skb)
        .with_context(|| format!("--interface {interface}: attach in generic mode"))?;
    if mode == XdpMode::Auto {
        warn!(
            interface,
            "attached in generic mode, which is several times slower: native mode failed: {why:#}"
        );
    }
    Ok(link)
}

fn attach_in(program: &mut Xdp, interface: &str, mode: Mode) -> Result<FdLink> {
    let id = program.attach(interface, mode).map_err(|error| explain(error.into()))?;
    match program.take_link(id)?.try_into() {
        Ok(link) => Ok(link),
        // Attached by netlink, an older way that outlives a process that is killed. Dropping the
        // link detached it.
        Err(_) => bail!("the kernel offers no BPF link for it (Linux 5.9 or later does)"),
    }
}

/// Says what an error of attaching means.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let number = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error));
    match number {
        Some(libc::EBUSY | libc::EEXIST) => error.context(
            "another XDP program is attached there; find it with `bpftool net` and detach it",
        ),
        Some(libc::EOPNOTSUPP) => error.context("the driver does not support it"),
        Some(libc::EPERM) => error.context("permission denied; run as root"),
        _ => error,
    }
}
