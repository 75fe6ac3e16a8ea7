//! Addresses with a port as people write them: `*` is every port. Inside the program that is port 0
//! of a `SocketAddr`, which is never shown.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::NotAValue;

/// An address and a port, or every port. Reads and shows as `192.0.2.10:80`, `192.0.2.10:*`,
/// `[2001:db8::10]:*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub SocketAddr);

impl Endpoint {
    /// The address in `text`, `*` for its port included.
    pub(super) fn read(text: &str) -> Option<SocketAddr> {
        let Some(host) = text.strip_suffix(":*") else { return text.parse().ok() };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let ip = match bracketed {
            Some(v6) => IpAddr::V6(v6.parse().ok()?),
            None => IpAddr::V4(host.parse().ok()?),
        };
        Some(SocketAddr::new(ip, 0))
    }
}

/// `address` as people write it.
#[must_use]
pub fn shown(address: SocketAddr) -> String {
    Endpoint(address).to_string()
}

/// For `#[serde(with = …)]` of an address with a port, as is [`deserialize`].
pub(super) fn serialize<S: Serializer>(
    address: &SocketAddr,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Endpoint(*address))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    Endpoint::deserialize(deserializer).map(|Endpoint(address)| address)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address) = self;
        match (address.port(), address.ip()) {
            (0, IpAddr::V4(v4)) => f.pad(&format!("{v4}:*")),
            (0, IpAddr::V6(v6)) => f.pad(&format!("[{v6}]:*")),
            _ => address.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        match Self::read(text) {
            Some(address) if address.port() != 0 || text.ends_with(":*") => Ok(Self(address)),
            Some(_) => Err(NotAValue(format!("{text:?} has port 0; write * for every port"))),
            None => Err(NotAValue(format!(
                "{text:?} is not an address with a port, like 192.0.2.10:80, [2001:db8::10]:80, \
                 or 192.0.2.10:* for every port"
            ))),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
