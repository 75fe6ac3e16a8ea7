//! The queries of the connection table's routes.

use std::fmt;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::Problem;
use crate::connections::{Asked, By, Sort};

/// Of a sorted listing without a limit, the connections shown; and groups of a count.
const USUAL: usize = 1000;
/// The most of a sorted listing, which is held in memory: some 20 MB; and of a count's groups.
const MOST: usize = 100_000;

/// A query of one of the routes. [`Asked`] explains the filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Of a listing: what it is sorted by; absent: it is in no order, and nothing is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// Of a sorted listing: the last first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reverse: bool,
    /// The most connections of a listing, or groups of a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Of a count: what is counted by; absent: by backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Of a flush: all connections, instead of filters.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How a listing is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) sort: Option<Sort>,
    pub(super) reverse: bool,
    pub(super) limit: usize,
}

fn wrong(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

impl Wish {
    /// The filters.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            service: self.service.clone(),
            backend: self.backend.clone(),
            client: self.client.clone(),
            state: self.state.clone(),
            protocol: self.protocol.clone(),
        }
    }

    /// As a listing's.
    pub(super) fn list(&self) -> Result<Order, Problem> {
        if self.by.is_some() || self.all {
            return Err(wrong("a listing takes neither by nor all; leave them out"));
        }
        let (sort, reverse) = (self.sort, self.reverse);
        if sort.is_none() && reverse {
            return Err(wrong("reverse needs an order; say sort, too"));
        }
        let limit = match (sort, self.limit) {
            (None, limit) => limit.unwrap_or(usize::MAX),
            (Some(_), limit) => bounded(limit)?,
        };
        Ok(Order { sort, reverse, limit })
    }

    /// As a count's: by what, and how many groups.
    pub(super) fn count(&self) -> Result<(By, usize), Problem> {
        if self.sort.is_some() || self.reverse || self.all {
            return Err(wrong("a count takes neither sort, reverse nor all; leave them out"));
        }
        Ok((self.by.unwrap_or(By::Backend), bounded(self.limit)?))
    }

    /// As a flush's: filters or all.
    pub(super) fn flush(&self) -> Result<(), Problem> {
        if self.sort.is_some() || self.reverse || self.limit.is_some() || self.by.is_some() {
            return Err(wrong(
                "a flush takes filters alone; leave out sort, reverse, limit and by",
            ));
        }
        match (self.asked().is_empty(), self.all) {
            (true, false) => Err(wrong("say which connections: by a filter, or all of them")),
            (false, true) => Err(wrong("all goes with no filter; leave out one or the other")),
            _ => Ok(()),
        }
    }
}

fn bounded(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        Some(limit) if limit > MOST => {
            let detail = format!("limit takes at most {MOST} of what is sorted in memory");
            Err(wrong(&detail))
        }
        limit => Ok(limit.unwrap_or(USUAL)),
    }
}

/// The filters for people, like `service web, client 198.51.100.0/24`.
impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = [
            ("service", &self.service),
            ("backend", &self.backend),
            ("client", &self.client),
            ("state", &self.state),
            ("protocol", &self.protocol),
        ];
        let given = filters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let given: Vec<_> = given.map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(if given.is_empty() { "every service" } else { "" })?;
        f.write_str(&given.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered() -> Wish {
        Wish { service: Some("web".to_owned()), ..Wish::default() }
    }

    #[test]
    fn a_sorted_listing_is_bounded() {
        let sorted = |limit| Wish { sort: Some(Sort::Idle), limit, ..filtered() }.list();
        assert_eq!(sorted(None).unwrap().limit, USUAL);
        assert_eq!(sorted(Some(7)).unwrap().limit, 7);
        assert!(sorted(Some(MOST + 1)).unwrap_err().detail.contains("100000"));
        let unsorted = |limit| Wish { limit, ..filtered() }.list().unwrap().limit;
        assert_eq!(unsorted(None), usize::MAX);
        assert_eq!(unsorted(Some(MOST + 1)), MOST + 1, "nothing of it is held");
        assert!(Wish { reverse: true, ..filtered() }.list().is_err());
    }

    #[test]
    fn a_flush_needs_to_be_told_what() {
        assert!(Wish::default().flush().is_err());
        assert!(filtered().flush().is_ok());
        assert!(Wish { all: true, ..Wish::default() }.flush().is_ok());
        assert!(Wish { all: true, ..filtered() }.flush().is_err());
        assert!(Wish { limit: Some(1), ..filtered() }.flush().is_err());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(Wish { by: Some(By::State), ..filtered() }.list().is_err());
        assert!(Wish { all: true, ..filtered() }.list().is_err());
        assert!(Wish { sort: Some(Sort::Client), ..filtered() }.count().is_err());
        assert_eq!(filtered().count().unwrap(), (By::Backend, USUAL));
        assert_eq!(filtered().to_string(), "service web");
        assert_eq!(Wish::default().to_string(), "every service");
    }
}
