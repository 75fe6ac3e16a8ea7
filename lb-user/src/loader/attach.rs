//! The program's attachment to the interfaces: what each of them needs, and doing it.
//!
//! A link holds a device, and a pin under the interface's name holds the link. Devices come, go and are
//! renamed under it; the name in the configuration is what counts.

use std::{collections::BTreeMap, fs, io, os::fd::AsFd as _, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{
    Xdp, XdpMode as Mode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use aya_obj::programs::XdpAttachType;
use tracing::{info, warn};

use super::{
    Pins,
    devices::{self, Device},
};
use crate::{bpf, config::XdpMode};

/// The program and the interfaces that it is to be attached to.
pub struct Attachments {
    program: Xdp,
    /// The program's id.
    own: u32,
    pins: Pins,
    pub(super) interfaces: Vec<String>,
    mode: XdpMode,
}

/// How it stands with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The program is attached to it.
    Attached,
    /// Its link holds it, with another program.
    OtherProgram,
    /// No link of this name holds it. It has this index.
    Bare(u32),
    /// The device that its link holds has another name now, and no other device took the old one.
    Renamed(String),
    /// There is no such interface.
    Missing,
}

/// Judges an interface by what its pinned link holds, if there is one.
pub(super) fn judge(
    interface: &str,
    held: Option<bpf::Link>,
    own: u32,
    devices: &[Device],
) -> Finding {
    if let Some(device) = devices.iter().find(|device| device.name == interface) {
        return match held {
            Some(link) if link.interface != device.index => Finding::Bare(device.index),
            Some(link) if link.program == own => Finding::Attached,
            Some(_) => Finding::OtherProgram,
            None => Finding::Bare(device.index),
        };
    }
    // One that went to another namespace may have the index of a device here, but not its program.
    let is_held = |device: &&Device| {
        held.is_some_and(|link| {
            device.index == link.interface && device.program == Some(link.program)
        })
    };
    match devices.iter().find(is_held) {
        Some(device) => Finding::Renamed(device.name.clone()),
        None => Finding::Missing,
    }
}

impl Attachments {
    /// Of the program pinned at `path`; the links are those of `pins`.
    ///
    /// # Errors
    ///
    /// Where it cannot be opened.
    pub fn new(path: &Path, pins: &Pins, interfaces: Vec<String>, mode: XdpMode) -> Result<Self> {
        let program = Xdp::from_pin(path, XdpAttachType::Interface)
            .with_context(|| format!("open the pinned program {}", path.display()))?;
        let own = program.info().context("ask for the program's id")?.id();
        Ok(Self { program, own, pins: pins.clone(), interfaces, mode })
    }

    /// Attaches the program to every interface, for a start, and detaches interfaces that are not wanted
    /// any more. An interface of the data path at work may be missing for a while.
    ///
    /// # Errors
    ///
    /// Where an interface is not there or can be attached in no permitted mode, or its link cannot be
    /// pinned.
    pub async fn attach(&mut self) -> Result<()> {
        let devices = devices::all().await?;
        for interface in self.interfaces.clone() {
            let held = self.held(&interface)?;
            match judge(&interface, held, self.own, &devices) {
                Finding::Missing if held.is_none() => {
                    bail!("interface {interface} does not exist on this host")
                }
                finding => self.mend(&interface, &finding)?,
            }
        }
        for interface in self.pins.linked_interfaces()? {
            if !self.interfaces.contains(&interface) {
                self.pins.detach(&interface)?;
                info!(interface, "detached: no longer in the configuration");
            }
        }
        Ok(())
    }

    /// How it stands with each interface, or why that cannot be told.
    pub(super) fn findings(&self, devices: &[Device]) -> BTreeMap<String, Result<Finding>> {
        let find = |interface: &String| {
            let runs_own = |index| {
                devices
                    .iter()
                    .any(|device| device.index == index && device.program == Some(self.own))
            };
            let finding = self.held(interface).map(|held| {
                match judge(interface, held, self.own, devices) {
                    // The daemon's grip holds the link, and pins it again.
                    Finding::Bare(index) if held.is_none() && runs_own(index) => Finding::Attached,
                    finding => finding,
                }
            });
            (interface.clone(), finding)
        };
        self.interfaces.iter().map(find).collect()
    }

    /// Does what an interface needs.
    pub(super) fn mend(&mut self, interface: &str, finding: &Finding) -> Result<()> {
        match finding {
            Finding::Attached | Finding::Missing => Ok(()),
            Finding::OtherProgram => {
                self.swap(interface)?;
                info!(interface, "link taken over, program swapped");
                Ok(())
            }
            // The link works wherever its device is called what.
            Finding::Renamed(_) => self.swap(interface),
            Finding::Bare(index) => self.attach_to(interface, *index),
        }
    }

    /// What an interface's link holds, where one is pinned.
    fn held(&self, interface: &str) -> Result<Option<bpf::Link>> {
        let path = self.pins.link(interface);
        match bpf::open_pin(&path).and_then(|link| bpf::link(link.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            link => link.map(Some).with_context(|| format!("open the link {}", path.display())),
        }
    }

    /// Puts the program into an interface's link, atomically.
    fn swap(&mut self, interface: &str) -> Result<()> {
        let path = self.pins.link(interface);
        let link = PinnedLink::from_pin(&path)
            .with_context(|| format!("open the pinned link of interface {interface}"))?;
        let link = XdpLink::try_from(FdLink::from(link))
            .with_context(|| format!("{} is not the link of an XDP program", path.display()))?;
        let id = self
            .program
            .attach_to_link(link)
            .with_context(|| format!("put the program into the link of interface {interface}"))?;
        // The pin holds the link, and the daemon's grip on it.
        drop(self.program.take_link(id)?);
        Ok(())
    }

    /// Attaches the program to an interface that has no link under its name.
    fn attach_to(&mut self, interface: &str, index: u32) -> Result<()> {
        // bpffs may have been taken away since, with all that was pinned there.
        self.pins.prepare()?;
        for name in self.pins.linked_interfaces()? {
            let holds = self.held(&name)?.is_some_and(|link| link.interface == index);
            if holds && name != interface {
                let (from, to) = (self.pins.link(&name), self.pins.link(interface));
                fs::rename(&from, &to)
                    .with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
                self.swap(interface)?;
                info!(interface, "link taken over: the interface was called {name} before");
                return Ok(());
            }
        }
        let native = match self.mode {
            XdpMode::Generic => Err(anyhow!("generic mode was asked for")),
            XdpMode::Auto | XdpMode::Native => {
                self.attach_in(interface, index, Mode::Driver).map_err(explain)
            }
        };
        let why = match (native, self.mode) {
            (Ok(()), _) => return Ok(()),
            (Err(error), XdpMode::Native) => {
                return Err(error).with_context(|| {
                    format!(
                        "attach to interface {interface} in native mode; set xdp_mode = \"auto\" \
                         to accept the slower generic mode"
                    )
                });
            }
            (Err(error), _) => error,
        };
        self.attach_in(interface, index, Mode::Skb)
            .map_err(explain)
            .with_context(|| format!("attach to interface {interface} in generic mode"))?;
        if self.mode == XdpMode::Auto {
            warn!(
                interface,
                "attached in generic mode, which is several times slower: native mode failed: \
                 {why:#}"
            );
        }
        Ok(())
    }

    fn attach_in(&mut self, interface: &str, index: u32, mode: Mode) -> Result<()> {
        let id = self.program.attach_to_if_index(index, mode)?;
        let link: FdLink = match self.program.take_link(id)?.try_into() {
            Ok(link) => link,
            // Attached by netlink, an older way that ends with its process: no data path to leave
            // behind. Dropping the link detached it.
            Err(_) => bail!("the kernel offers no BPF link for it (Linux 5.9 or later does)"),
        };
        let path = self.pins.link(interface);
        if path.exists() {
            // Of another device: the daemon's grip would hold it for a while.
            match bpf::detach_link(&path) {
                Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => {
                    return Err(error).context("detach the device that had its name");
                }
                _ => {}
            }
        }
        // Beside its place first, so that there is always one.
        let fresh = self.pins.fresh_link();
        if fresh.exists() {
            fs::remove_file(&fresh).with_context(|| format!("remove {}", fresh.display()))?;
        }
        link.pin(&fresh).context("pin its link")?;
        fs::rename(&fresh, &path).context("pin its link")
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

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 40;

    fn device(index: u32, name: &str, program: Option<u32>) -> Device {
        Device { index, name: name.to_owned(), mode: "native", program }
    }

    fn judged(held: Option<(u32, u32)>, devices: &[Device]) -> Finding {
        let held = held.map(|(program, interface)| bpf::Link { program, interface });
        judge("front", held, OWN, devices)
    }

    #[test]
    fn a_link_is_judged_by_the_device_that_has_the_name() {
        let front = [device(2, "back", Some(OWN)), device(3, "front", Some(OWN))];
        assert_eq!(judged(Some((OWN, 3)), &front), Finding::Attached);
        assert_eq!(judged(Some((39, 3)), &front), Finding::OtherProgram);
        assert_eq!(judged(None, &front), Finding::Bare(3));
        // The device was deleted, or somebody detached the link.
        assert_eq!(judged(Some((OWN, 0)), &front), Finding::Bare(3));
        // It was renamed, and another one has its name.
        assert_eq!(judged(Some((OWN, 9)), &front), Finding::Bare(3));
    }

    #[test]
    fn a_device_that_was_renamed_is_told_from_one_that_is_gone() {
        let renamed = [device(2, "back", Some(OWN)), device(3, "uplink", Some(OWN))];
        assert_eq!(judged(Some((OWN, 3)), &renamed), Finding::Renamed("uplink".to_owned()));
        assert_eq!(judged(Some((OWN, 0)), &renamed), Finding::Missing);
        assert_eq!(judged(None, &renamed), Finding::Missing);
        // It went to another namespace, and its index here is another device's.
        assert_eq!(judged(Some((OWN, 3)), &[device(3, "lo", None)]), Finding::Missing);
    }
}
