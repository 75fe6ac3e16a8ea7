//! Attaching the XDP program to the interfaces, and taking over the links of an earlier daemon.

use std::fs;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{
    ProgramError, Xdp, XdpMode as Mode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use tracing::{info, warn};

use super::Pins;
use crate::config::XdpMode;

/// Attaches the program to every interface, pins each link, and detaches interfaces that are not
/// wanted any more.
///
/// # Errors
///
/// Where an interface can be attached in no permitted mode, or its link cannot be pinned.
pub fn attach(program: &mut Xdp, pins: &Pins, interfaces: &[String], mode: XdpMode) -> Result<()> {
    for interface in interfaces {
        if take_over(program, pins, interface)? {
            info!(interface, "link taken over, program swapped");
        } else {
            attach_fresh(program, pins, interface, mode)?;
        }
    }
    for interface in pins.linked_interfaces()? {
        if !interfaces.contains(&interface) {
            pins.detach(&interface)?;
            info!(interface, "detached: no longer in the configuration");
        }
    }
    Ok(())
}

/// Puts the program into the link pinned for an interface, atomically. Says whether there was one
/// that still holds the interface.
fn take_over(program: &mut Xdp, pins: &Pins, interface: &str) -> Result<bool> {
    let path = pins.link(interface);
    if !path.exists() {
        return Ok(false);
    }
    let link = PinnedLink::from_pin(&path)
        .with_context(|| format!("open the pinned link of interface {interface}"))?;
    let link = XdpLink::try_from(FdLink::from(link))
        .with_context(|| format!("{} is not the link of an XDP program", path.display()))?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // Only the pin shall hold the link, so that `detach` works while a daemon lives.
            drop(program.take_link(id)?);
            Ok(true)
        }
        // The interface that the link was for is gone; one of the same name may be there.
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOLINK) =>
        {
            fs::remove_file(&path).with_context(|| format!("remove stale {}", path.display()))?;
            Ok(false)
        }
        Err(error) => Err(error)
            .with_context(|| format!("put the program into the link of interface {interface}")),
    }
}

fn attach_fresh(program: &mut Xdp, pins: &Pins, interface: &str, mode: XdpMode) -> Result<()> {
    let native = match mode {
        XdpMode::Generic => Err(anyhow!("generic mode was asked for")),
        XdpMode::Auto | XdpMode::Native => {
            attach_in(program, pins, interface, Mode::Driver).map_err(explain)
        }
    };
    let why = match (native, mode) {
        (Ok(()), _) => return Ok(()),
        (Err(error), XdpMode::Native) => {
            return Err(error).with_context(|| {
                format!(
                    "attach to interface {interface} in native mode; set xdp_mode = \"auto\" to \
                     accept the slower generic mode"
                )
            });
        }
        (Err(error), _) => error,
    };
    attach_in(program, pins, interface, Mode::Skb)
        .map_err(explain)
        .with_context(|| format!("attach to interface {interface} in generic mode"))?;
    if mode == XdpMode::Auto {
        warn!(
            interface,
            "attached in generic mode, which is several times slower: native mode failed: {why:#}"
        );
    }
    Ok(())
}

fn attach_in(program: &mut Xdp, pins: &Pins, interface: &str, mode: Mode) -> Result<()> {
    let id = program.attach(interface, mode)?;
    let link: FdLink = match program.take_link(id)?.try_into() {
        Ok(link) => link,
        // Attached by netlink, an older way that ends with its process: no data path to leave
        // behind. Dropping the link detached it.
        Err(_) => bail!("the kernel offers no BPF link for it (Linux 5.9 or later does)"),
    };
    link.pin(pins.link(interface)).context("pin its link")?;
    Ok(())
}

/// Says what an error of attaching means.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let number = error.chain().find_map(|cause| {
        cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
    });
    match number {
        Some(libc::EBUSY | libc::EEXIST) => error.context(
            "another XDP program is attached there; find it with `bpftool net` and detach it",
        ),
        Some(libc::EOPNOTSUPP) => error.context("the driver does not support it"),
        Some(libc::EPERM) => error.context("permission denied; run as root"),
        _ => error,
    }
}
