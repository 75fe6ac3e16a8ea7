//! One value at a time: from a TOML value to a meaningful one, or to what is wrong with it.
//! Everything here is pure and knows neither keys nor places.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use toml::de::{DeInteger, DeValue};

use crate::{
    config::{
        choices::Named,
        endpoint::Endpoint,
        model::{PortRange, Service},
        prefix::{NotAPrefix, Prefix},
        verify::Decimal,
    },
    health::{StatusSet, number_range},
};

/// What is wrong with a value: a predicate (`is 0`), and what to do about it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) says: String,
    pub(super) remedy: String,
}

type Converted<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { says: says.into(), remedy: remedy.into() }
    }
}

pub(super) fn expected(found: &DeValue<'_>, what: &str, remedy: &str) -> Problem {
    let found = found.type_str();
    let article = if matches!(found, "integer" | "array") { "an" } else { "a" };
    Problem::new(format!("must be {what}, not {article} {found}"), remedy)
}

pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Converted<&'v str> {
    value.as_str().ok_or_else(|| expected(value, "a string", "put it in double quotes"))
}

/// The same, owned.
pub(super) fn string_of(value: &DeValue<'_>) -> Converted<String> {
    string(value).map(ToOwned::to_owned)
}

pub(super) fn integer(value: &DeValue<'_>, least: u32, most: u32) -> Converted<u32> {
    let Some(integer) = value.as_integer() else {
        return Err(expected(value, "a whole number", "write it without quotes or a point"));
    };
    to_i128(integer)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Problem::new(format!("is {integer}, out of range"), format!("use {least} to {most}"))
        })
}

/// A number from `least` to `most`, with or without a point.
pub(super) fn decimal(value: &DeValue<'_>, least: f64, most: f64) -> Converted<Decimal> {
    let text = match (value.as_integer(), value.as_float()) {
        (Some(integer), _) if integer.radix() == 10 => integer.as_str(),
        (_, Some(float)) => float.as_str(),
        _ => return Err(expected(value, "a number", "write it without quotes, like 1.1")),
    };
    let number: Option<f64> = text.replace('_', "").parse().ok();
    number.filter(|number| (least..=most).contains(number)).and_then(Decimal::new).ok_or_else(
        || Problem::new(format!("is {text}, out of range"), format!("use {least} to {most}")),
    )
}

fn to_i128(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

pub(super) fn boolean(value: &DeValue<'_>) -> Converted<bool> {
    value.as_bool().ok_or_else(|| expected(value, "true or false", "write it without quotes"))
}

/// One of the names of an enum.
pub(super) fn choice<T: Named>(value: &DeValue<'_>) -> Converted<T> {
    let text = string(value)?;
    if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = T::NAMES.iter().map(|(name, _)| *name).collect();
    let usable = match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    };
    if T::LATER.contains(&text) {
        let says = format!("is {text:?}, which is not available yet in this version");
        return Err(Problem::new(says, format!("use {usable}")));
    }
    let meant = nearest(text, names.iter().copied());
    let remedy = match meant {
        Some(meant) if names.len() > 1 => format!("did you mean {meant:?}? Use {usable}"),
        _ => format!("use {usable}"),
    };
    Err(Problem::new(format!("is {text:?}, which is unknown"), remedy))
}

/// The name nearest to `text`, if any is near enough to have been meant.
pub(in crate::config) fn nearest<'n>(
    text: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    // A name is bounded, and so is the work on a text that is not.
    let text: String = text.chars().take(64).collect::<String>().to_lowercase();
    let near_enough = (text.len() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&text, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= near_enough && *distance < text.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether a service or a backend may be called `text`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= 63
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

pub(super) fn name(value: &DeValue<'_>) -> Converted<String> {
    let text = string(value)?;
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        format!("is {text:?}, which cannot be a name"),
        "use 1 to 63 letters, digits, dots, underscores and hyphens, a letter or digit first",
    ))
}

/// A name that the kernel would take for an interface.
pub(super) fn interface(value: &DeValue<'_>) -> Converted<String> {
    let text = string(value)?;
    let fault = if text.len() > 15 {
        "is longer than the 15 bytes of an interface name"
    } else if matches!(text, "" | "." | "..")
        || text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))
    {
        "cannot be the name of an interface"
    } else {
        return Ok(text.to_owned());
    };
    Err(Problem::new(format!("is {text:?}, which {fault}"), "see `ip link` for the names"))
}

pub(super) fn ip_address(value: &DeValue<'_>) -> Converted<IpAddr> {
    let text = string(value)?;
    let address = text.parse().map_err(|_| {
        let remedy = if text.parse::<SocketAddr>().is_ok() {
            "write the address without a port"
        } else {
            "write it like \"10.0.0.2\" or \"2001:db8::2\""
        };
        Problem::new(format!("is {text:?}, which is not an IP address"), remedy)
    })?;
    usable(address)
}

pub(super) fn socket_address(value: &DeValue<'_>) -> Converted<SocketAddr> {
    let text = string(value)?;
    let Some(address) = Endpoint::read(text) else { return Err(why_no_address(text)) };
    if address.port() == 0 && !text.ends_with(":*") {
        let remedy = "use a port of 1 to 65535, or * for every port";
        return Err(Problem::new(format!("is {text:?}, with port 0"), remedy));
    }
    if let SocketAddr::V6(v6) = address
        && v6.scope_id() != 0
    {
        let says = format!("is {text:?}, which is scoped to one interface");
        return Err(Problem::new(says, "use an address that is routed, without %"));
    }
    usable(address.ip())?;
    Ok(address)
}

fn why_no_address(text: &str) -> Problem {
    const EXAMPLES: &str = "write it like \"192.0.2.10:80\" or \"[2001:db8::10]:80\"";
    if text.parse::<IpAddr>().is_ok() {
        return Problem::new(format!("is {text:?}, which has no port"), EXAMPLES);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Problem::new(format!("is {text:?}, not an address with a port"), EXAMPLES);
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_err() {
        let says = format!("is {text:?}: {host:?} is not an IP address");
        return Problem::new(says, EXAMPLES);
    }
    if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_err()
    {
        let says = format!("is {text:?}, with a port that is out of range");
        return Problem::new(says, "use a port of 1 to 65535");
    }
    Problem::new(format!("is {text:?}, not an address with a port"), EXAMPLES)
}

pub(super) fn prefix(value: &DeValue<'_>) -> Converted<Prefix> {
    let text = string(value)?;
    text.parse().map_err(|error: NotAPrefix| {
        let (says, remedy) = error.told(text);
        Problem::new(says, remedy)
    })
}

/// A prefix that a tunnel's source addresses are taken from.
pub(super) fn source_prefix(value: &DeValue<'_>) -> Converted<Prefix> {
    const SHORTEST: u8 = 8;
    let prefix = prefix(value)?;
    if prefix.length < SHORTEST {
        let says = format!("is \"{prefix}\", which is most of all addresses");
        return Err(Problem::new(says, format!("use a length of {SHORTEST} or more")));
    }
    usable(prefix.address)?;
    Ok(prefix)
}

/// Refuses the addresses that no single host answers on.
fn usable(address: IpAddr) -> Converted<IpAddr> {
    let fault = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        _ => return Ok(address),
    };
    let remedy = "use a unicast address, in its own family's notation";
    Err(Problem::new(format!("is on {address}, {fault}"), remedy))
}

pub(super) fn port(value: &DeValue<'_>) -> Converted<u16> {
    Ok(u16::try_from(integer(value, 1, 65_535)?).unwrap_or(u16::MAX))
}

/// A number that the kernel's program takes the remainder by with a mask.
pub(super) fn power_of_two(value: &DeValue<'_>, most: u32) -> Converted<u32> {
    let number = integer(value, 1, most)?;
    if number.is_power_of_two() {
        return Ok(number);
    }
    let next = number.next_power_of_two();
    Err(Problem::new(format!("is {number}, which is not a power of two"), format!("use {next}")))
}

/// The slots of a hashing scheduler's table.
pub(super) fn table_size(value: &DeValue<'_>) -> Converted<u32> {
    let number = integer(value, 2, Service::MOST_TABLE_SIZE)?;
    // The most is a prime itself.
    match (number..=Service::MOST_TABLE_SIZE).find(|number| is_prime(*number)) {
        Some(prime) if prime != number => {
            let says = format!("is {number}, which is not a prime");
            Err(Problem::new(says, format!("use {prime}, the next one")))
        }
        _ => Ok(number),
    }
}

/// By trial division; enough for numbers of 20 bits.
fn is_prime(number: u32) -> bool {
    number >= 2 && (2..number).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

pub(super) fn port_range(value: &DeValue<'_>) -> Converted<PortRange> {
    let text = string(value)?;
    let remedy = "write the lowest and the highest port, of 1 to 65535: \"1024-32767\"";
    let wrong = || Problem::new(format!("is {text:?}, not a range of ports"), remedy);
    let range = number_range(text).ok_or_else(wrong)?;
    if *range.start() == 0 || !text.contains('-') {
        return Err(wrong());
    }
    Ok(PortRange { low: *range.start(), high: *range.end() })
}

pub(super) fn statuses(value: &DeValue<'_>) -> Converted<StatusSet> {
    let number = value.as_integer().map(ToString::to_string);
    let text = match &number {
        Some(number) => number.as_str(),
        None => value.as_str().ok_or_else(|| {
            expected(value, "a status or a string of statuses", "write it like \"200,204,300-399\"")
        })?,
    };
    text.parse().map_err(|_| {
        Problem::new(
            format!("is {text:?}, not a list of HTTP statuses"),
            "use statuses of 100 to 599, like \"200,204,300-399\"",
        )
    })
}

pub(super) fn duration(
    value: &DeValue<'_>,
    least: Duration,
    most: Duration,
) -> Converted<Duration> {
    let remedy = "write it with a unit, like \"2s\" or \"500ms\"";
    let text = value.as_str().ok_or_else(|| expected(value, "a duration in quotes", remedy))?;
    let duration = humantime::parse_duration(text)
        .map_err(|_| Problem::new(format!("is {text:?}, which is not a duration"), remedy))?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    let [least, most] = [least, most].map(humantime::format_duration);
    Err(Problem::new(format!("is {text:?}, out of range"), format!("use {least} to {most}")))
}
