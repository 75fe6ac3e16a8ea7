//! Addresses on interfaces, as /32 or /128, by rtnetlink.

use std::{io, net::IpAddr};

use anyhow::{Context as _, Result, bail};
use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};
use rtnetlink::{
    Handle, new_connection,
    packet_route::{
        AddressFamily,
        address::{
            AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
        },
    },
};
use tokio::task::AbortHandle;

/// What adding an address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there already.
    Before,
}

/// Bits of an address.
#[must_use]
pub const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Puts an address on an interface.
///
/// # Errors
///
/// Where there is no such interface, or the kernel refuses.
pub async fn add(interface: &str, address: IpAddr) -> Result<Added> {
    let message = message(interface, address)?;
    let socket = Socket::open()?;
    let mut request = socket.handle.address().add(message.header.index, address, bits(address));
    *request.message_mut() = message;
    match request.execute().await {
        Ok(()) => Ok(Added::New),
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(Added::Before),
        Err(error) => Err(error).with_context(|| format!("add {address} to {interface}")),
    }
}

/// Takes an address off an interface. One that is not there, or whose interface is not, is no error.
///
/// # Errors
///
/// Where the kernel refuses.
pub async fn remove(interface: &str, address: IpAddr) -> Result<()> {
    let Ok(message) = message(interface, address) else { return Ok(()) };
    let socket = Socket::open()?;
    match socket.handle.address().del(message).execute().await {
        Err(error) if !matches!(errno(&error), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
            Err(error).with_context(|| format!("take {address} off {interface}"))
        }
        _ => Ok(()),
    }
}

/// Whether an interface has an address.
///
/// # Errors
///
/// Where the kernel could not be asked.
pub fn is_on(interface: &str, address: IpAddr) -> io::Result<bool> {
    let mut entries = getifaddrs()?;
    Ok(entries.any(|entry| {
        let v4 = entry.address.and_then(|a| a.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())));
        let v6 = entry.address.and_then(|a| a.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())));
        entry.interface_name == interface && v4.or(v6) == Some(address)
    }))
}

fn message(interface: &str, address: IpAddr) -> Result<AddressMessage> {
    let Ok(index) = if_nametoindex(interface) else {
        bail!("there is no interface {interface}; make it, or name another one in [announce]");
    };
    let mut message = AddressMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = bits(address);
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        // Every edge has it: to look for duplicates would find the others, where they can be heard.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Ok(message)
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

/// An open socket. Dropping it closes it.
struct Socket {
    handle: Handle,
    connection: AbortHandle,
}

impl Socket {
    fn open() -> Result<Self> {
        let (connection, handle, _) = new_connection().context("open a netlink socket")?;
        Ok(Self { handle, connection: tokio::spawn(connection).abort_handle() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
