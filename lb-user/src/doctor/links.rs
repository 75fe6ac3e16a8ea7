//! Reading what interfaces are: by rtnetlink, the kernel's ethtool and netdev families, and /sys.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolFeatureAttr, EthtoolHandle};
use futures_util::{StreamExt as _, TryStreamExt as _};
use genetlink::GenetlinkHandle;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};

use super::{
    interface::{Attached, Channels, Interface, Mode, Owner},
    netdev::{self, XdpFeatures},
};
use crate::loader::Pins;

/// Every interface that there is.
///
/// # Errors
///
/// Where netlink cannot be opened.
pub async fn read(pins: &Pins) -> Result<Vec<Interface>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("open netlink")?;
    let task = tokio::spawn(connection);
    let messages: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.context("list the interfaces")?;
    task.abort();
    let own = aya::programs::ProgramInfo::from_pin(pins.program()).ok().map(|info| info.id());
    let names = program_names();
    let mut links: Vec<_> =
        messages.iter().map(|message| interface(message, own, &names)).collect();
    let known: BTreeMap<u32, String> =
        links.iter().map(|link| (link.index, link.name.clone())).collect();
    for (message, position) in messages.iter().zip(0..) {
        let below = below(message).and_then(|index| known.get(&index)).cloned();
        links[position].vlan_of.clone_from(&below);
        if let Some(carrier) = below.and_then(|name| links.iter_mut().find(|l| l.name == name)) {
            let on_top = known.get(&message.header.index).cloned();
            carrier.vlans.extend(on_top);
        }
    }
    ask_drivers(&mut links).await;
    Ok(links)
}

/// The names of the programs in the kernel, by id; none where we may not see them.
fn program_names() -> BTreeMap<u32, String> {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())))
        .collect()
}

/// The interface that a VLAN's is on.
fn below(message: &LinkMessage) -> Option<u32> {
    kind(message).filter(|kind| kind == "vlan")?;
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

fn kind(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().find_map(|part| match part {
            LinkInfo::Kind(kind) => Some(kind_name(kind)),
            _ => None,
        }),
        _ => None,
    })
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn interface(message: &LinkMessage, own: Option<u32>, names: &BTreeMap<u32, String>) -> Interface {
    let mut link = Interface {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        kind: kind(message),
        ..Interface::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => link.attached = attached(xdp, own, names),
            LinkAttribute::LinkInfo(info) => {
                link.bonded = info.iter().any(
                    |part| matches!(part, LinkInfo::PortKind(kind) if kind.to_string() == "bond"),
                );
            }
            _ => {}
        }
    }
    link
}

fn attached(xdp: &[LinkXdp], own: Option<u32>, names: &BTreeMap<u32, String>) -> Option<Attached> {
    let mode = xdp.iter().find_map(|part| match part {
        LinkXdp::Attached(XdpAttached::Driver) => Some(Mode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(Mode::Generic),
        LinkXdp::Attached(XdpAttached::None) | LinkXdp::Fd(_) => None,
        LinkXdp::Attached(_) => Some(Mode::Other),
        _ => None,
    })?;
    let id = xdp.iter().find_map(|part| match part {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    })?;
    let owner = match own {
        Some(own) if own == id => Owner::Us,
        _ => Owner::Somebody(names.get(&id).cloned()),
    };
    Some(Attached { mode, id, owner })
}

/// Adds what only drivers know. What one does not tell stays unknown.
async fn ask_drivers(links: &mut [Interface]) {
    let family = genetlink::new_connection().ok();
    let mut family = family.map(|(connection, handle, _)| (tokio::spawn(connection), handle));
    let tool = ethtool::new_connection().ok();
    let mut tool = tool.map(|(connection, handle, _)| (tokio::spawn(connection), handle));
    for link in links {
        if let Some((_, handle)) = &mut family {
            link.features = features(handle, link.index).await;
        }
        if let Some((_, handle)) = &mut tool {
            link.channels = channels(handle, &link.name).await;
            (link.offloads, link.fixed) = offloads(handle, &link.name).await;
        }
        let device = Path::new("/sys/class/net").join(&link.name);
        // /sys may be of another network namespace than ours.
        let index = fs::read_to_string(device.join("ifindex")).unwrap_or_default();
        if index.trim() == link.index.to_string() {
            link.driver = driver(&device);
            link.interrupts = interrupts(&device);
        }
    }
    for task in family.map(|(task, _)| task).into_iter().chain(tool.map(|(task, _)| task)) {
        task.abort();
    }
}

async fn features(handle: &mut GenetlinkHandle, index: u32) -> Option<XdpFeatures> {
    netdev::xdp_features(handle, index).await.ok()
}

async fn channels(handle: &mut EthtoolHandle, name: &str) -> Option<Channels> {
    let mut stream = std::pin::pin!(handle.channel().get(Some(name)).execute().await.ok()?);
    let answer = stream.next().await?.ok()?;
    let mut channels = Channels { used: 0, most: 0 };
    for attribute in answer.payload.nlas {
        let EthtoolAttr::Channel(attribute) = attribute else { continue };
        // A driver has combined channels, or ones that receive, or both.
        match attribute {
            EthtoolChannelAttr::CombinedCount(n) | EthtoolChannelAttr::RxCount(n) => {
                channels.used += n;
            }
            EthtoolChannelAttr::CombinedMax(n) | EthtoolChannelAttr::RxMax(n) => {
                channels.most = channels.most.max(n);
            }
            _ => {}
        }
    }
    (channels.used > 0).then_some(channels)
}

/// The offloads that are on, and those among them that cannot be switched off.
async fn offloads(handle: &mut EthtoolHandle, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut on, mut changeable) = (BTreeSet::new(), BTreeSet::new());
    if let Ok(stream) = handle.feature().get(Some(name)).execute().await
        && let Some(Ok(answer)) = std::pin::pin!(stream).next().await
    {
        for attribute in answer.payload.nlas {
            match attribute {
                EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => {
                    on.extend(bits.into_iter().filter(|bit| bit.value).map(|bit| bit.name));
                }
                EthtoolAttr::Feature(EthtoolFeatureAttr::Hw(bits)) => {
                    changeable.extend(bits.into_iter().map(|bit| bit.name));
                }
                _ => {}
            }
        }
    }
    let fixed = on.difference(&changeable).cloned().collect();
    (on, fixed)
}

fn driver(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// The processors that each of the device's interrupts goes to.
fn interrupts(device: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(device.join("device/msi_irqs")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().into_string().ok()?;
            let path = format!("/proc/irq/{number}/effective_affinity_list");
            Some(fs::read_to_string(path).ok()?.trim().to_owned())
        })
        .collect()
}
