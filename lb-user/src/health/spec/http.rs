//! HTTP requests, with and without TLS, and the answers that pass.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use hyper::Method;
use serde::{Serialize, Serializer};

use super::{number_range, shown};

/// An HTTP request and the answer that counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    /// The request method.
    #[serde(serialize_with = "shown")]
    pub method: Method,
    /// The request target: a path, with its query if there is one.
    pub path: String,
    /// The `Host` header; the target's address and port when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The status codes that pass.
    pub expect_status: StatusSet,
    /// Text that the first [`BODY_LIMIT`](crate::health::BODY_LIMIT) bytes of the body must contain. The
    /// body is not read when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
}

/// A set of HTTP status codes, written `200-299,301`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

/// Text that is not a set of HTTP status codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a set of HTTP status codes; write codes from 100 to 599 and ranges of them, such as `200-299,301`"
)]
pub struct InvalidStatusSet(String);

impl StatusSet {
    /// The set that holds every code of every range.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Whether `status` is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/".to_owned(),
            host: None,
            expect_status: StatusSet::default(),
            expect_body: None,
        }
    }
}

impl Default for StatusSet {
    /// Success and redirection: 200 to 399.
    fn default() -> Self {
        Self::new([200..=399])
    }
}

impl FromStr for StatusSet {
    type Err = InvalidStatusSet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(|part| number_range(part).filter(|r| *r.start() >= 100 && *r.end() <= 599))
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| InvalidStatusSet(text.to_owned()))
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_sets_parse_print_and_contain() {
        let set: StatusSet = "200-204, 301".parse().unwrap();
        assert_eq!(set.to_string(), "200-204,301");
        for (status, expected) in
            [(199, false), (200, true), (204, true), (205, false), (301, true), (302, false)]
        {
            assert_eq!(set.contains(status), expected, "{status}");
        }
    }

    #[test]
    fn bad_status_sets_are_refused_with_a_remedy() {
        for text in
            ["", "abc", "200-", "-200", "300-200", "99", "600", "200,,301", "200-300-400", "+200"]
        {
            let error = text.parse::<StatusSet>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("200-299,301"));
        }
    }
}
