//! The host's network devices as the kernel tells of them: names, and which program is attached how.

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index: another device, and another one that was made in its place, has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How an XDP program is attached: `native`, `generic`, `none`, …
    pub mode: &'static str,
    /// That program's id.
    pub program: Option<u32>,
}

/// Every device of the calling thread's network namespace.
///
/// # Errors
///
/// Where netlink cannot be opened, or does not answer.
pub async fn all() -> Result<Vec<Device>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let task = tokio::spawn(connection);
    let links = handle.link().get().execute().map_ok(read).try_collect().await;
    task.abort();
    links.context("ask for the network interfaces")
}

/// How the program is attached to an interface: `native`, `generic`, or `none` where no program is
/// attached or there is no such interface.
///
/// # Errors
///
/// Where netlink cannot be opened, or does not answer.
pub async fn mode(interface: &str) -> Result<&'static str> {
    let devices = all().await?;
    let device = devices.iter().find(|device| device.name == interface);
    Ok(device.map_or("none", |device| device.mode))
}

fn read(message: LinkMessage) -> Device {
    let mut device = Device {
        index: message.header.index,
        name: message.header.index.to_string(),
        mode: "none",
        program: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::Xdp(parts) => {
                for part in parts {
                    match part {
                        LinkXdp::Attached(attached) => device.mode = mode_of(attached),
                        LinkXdp::ProgId(id) => device.program = Some(id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    device
}

fn mode_of(attached: XdpAttached) -> &'static str {
    match attached {
        XdpAttached::Driver => "native",
        XdpAttached::SocketBuffer => "generic",
        XdpAttached::Hardware => "hardware",
        XdpAttached::Multiple => "multiple",
        _ => "none",
    }
}
