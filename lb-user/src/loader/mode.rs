//! How the program is attached to an interface right now, asked of the kernel.

use anyhow::Result;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};

/// `native`, `generic`, or `none` where no program is attached or there is no such interface.
///
/// # Errors
///
/// Where netlink cannot be opened.
pub async fn mode(interface: &str) -> Result<&'static str> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let task = tokio::spawn(connection);
    let request = handle.link().get().match_name(interface.to_owned());
    let link = request.execute().try_next().await.ok().flatten();
    task.abort();
    let attributes = link.map(|link| link.attributes).unwrap_or_default();
    let attached = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|part| match part {
            LinkXdp::Attached(attached) => Some(attached),
            _ => None,
        }),
        _ => None,
    });
    Ok(match attached {
        Some(XdpAttached::Driver) => "native",
        Some(XdpAttached::SocketBuffer) => "generic",
        Some(XdpAttached::Hardware) => "hardware",
        Some(XdpAttached::Multiple) => "multiple",
        _ => "none",
    })
}
