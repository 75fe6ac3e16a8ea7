//! Prefixes of addresses, and lists of them. Where a list was written is not known here.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::NotAValue;

/// The addresses whose first bits are those of `address`, like `198.51.100.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The first address; the bits after `length` are zero.
    pub address: IpAddr,
    /// How many bits count: at most 32 or 128.
    pub length: u8,
}

/// Whom a service, or the node, lets in. Without `allow` everybody who is not denied; with it nobody
/// who is not allowed. Between the two the longest matching prefix wins, and no prefix is in both.
///
/// Shown by its numbers alone: it may hold a hundred thousand.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrefixLists {
    /// Sorted, without duplicates.
    pub allow: Vec<Prefix>,
    /// Sorted, without duplicates.
    pub deny: Vec<Prefix>,
}

impl Prefix {
    /// `address` cut to `length` bits, at most those of its family.
    #[must_use]
    pub fn cut(address: IpAddr, length: u8) -> Self {
        let length = length.min(Self::bits(address));
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, length }
    }

    /// Bits of an address of its family.
    #[must_use]
    pub const fn bits(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::cut(address, self.length) == *self
    }
}

impl PrefixLists {
    /// Whether nobody is told apart.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// How many prefixes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.allow.len() + self.deny.len()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    /// An address alone is the prefix of its whole length.
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| NotAPrefix::Syntax)?;
        if let IpAddr::V6(v6) = address
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(NotAPrefix::Mapped);
        }
        let bits = Self::bits(address);
        let length = if text.contains('/') {
            let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            plain.then_some(()).ok_or(NotAPrefix::Syntax)?;
            length.parse().ok().filter(|length| *length <= bits).ok_or(NotAPrefix::Length(bits))?
        } else {
            bits
        };
        let prefix = Self::cut(address, length);
        if prefix.address == address { Ok(prefix) } else { Err(NotAPrefix::HostBits(prefix)) }
    }
}

/// Why a text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAPrefix {
    /// It has another form.
    Syntax,
    /// Its length is more than the bits of its family.
    Length(u8),
    /// Bits after its length are set; the prefix that was meant.
    HostBits(Prefix),
    /// An IPv4 address written as IPv6.
    Mapped,
}

impl NotAPrefix {
    /// What is wrong, as a predicate, and what to do about it.
    pub(super) fn told(self, text: &str) -> (String, String) {
        const FORM: &str = "write it like \"198.51.100.0/24\" or \"2001:db8::/32\"";
        match self {
            Self::Syntax => (format!("is {text:?}, which is not a prefix"), FORM.to_owned()),
            Self::Length(bits) => (
                format!("is {text:?}, longer than the {bits} bits of its address"),
                format!("use a length of 0 to {bits}"),
            ),
            Self::HostBits(prefix) => {
                let address = text.split('/').next().unwrap_or(text);
                let bits = Prefix::bits(prefix.address);
                (
                    format!("is {text:?}, which has bits set after its length"),
                    format!("write \"{prefix}\", or \"{address}/{bits}\" for that address alone"),
                )
            }
            Self::Mapped => (
                format!("is {text:?}, an IPv4 prefix written as IPv6"),
                "write it in its own family's notation".to_owned(),
            ),
        }
    }
}

impl fmt::Display for NotAPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a prefix",
            Self::Length(_) => "longer than its address",
            Self::HostBits(_) => "bits are set after its length",
            Self::Mapped => "an IPv4 prefix written as IPv6",
        })
    }
}

impl std::error::Error for NotAPrefix {}

impl From<NotAPrefix> for NotAValue {
    fn from(error: NotAPrefix) -> Self {
        Self(error.to_string())
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for PrefixLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrefixLists {{ {} allowed, {} denied }}", self.allow.len(), self.deny.len())
    }
}

impl Serialize for PrefixLists {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut counts = serializer.serialize_struct("PrefixLists", 2)?;
        counts.serialize_field("allow", &self.allow.len())?;
        counts.serialize_field("deny", &self.deny.len())?;
        counts.end()
    }
}
