//! Exceptions: backends that people took out for a while, and that return by themselves.
//!
//! Membership is the configuration's; what is here ends. So each exception says until when, why, and
//! who asked, and is remembered over a restart of the daemon. Pure but for [`store`]: the time is passed
//! in.

pub mod store;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::api::Peer;

/// What people decided about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// It takes part.
    #[default]
    Ready,
    /// It gets no new connection; those that are open finish.
    Drain,
    /// It is left alone: no connection, no probe.
    Maintenance,
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        })
    }
}

/// For how long an exception lasts. Written as people write it: `30m`, or `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// So long.
    For(Duration),
    /// Until somebody ends it.
    Forever,
}

/// The longest exception that ends by itself: one that is longer is one that is forgotten.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Text that is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASpan {
    /// It is no duration at all.
    #[error("{0:?} is not a time; write one like 30m, 2h or 1d, or forever")]
    Garbled(String),
    /// Nothing would happen.
    #[error("a backend is taken out for a second at the least")]
    Short,
    /// Nobody would remember.
    #[error("{0:?} is longer than 30 days; write forever if you mean it")]
    Long(String),
}

impl std::str::FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let span =
            humantime::parse_duration(text).map_err(|_| NotASpan::Garbled(text.to_owned()))?;
        match span {
            span if span < Duration::from_secs(1) => Err(NotASpan::Short),
            span if span > LONGEST => Err(NotASpan::Long(text.to_owned())),
            span => Ok(Self::For(span)),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => humantime::format_duration(*span).fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A backend by the names of its service and itself.
pub type Key = (String, String);

/// A backend that is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The service's name.
    pub service: String,
    /// The backend's name.
    pub backend: String,
    /// How: never [`AdminState::Ready`].
    pub state: AdminState,
    /// Since when.
    pub since: SystemTime,
    /// Until when; `None`: until somebody ends it.
    pub until: Option<SystemTime>,
    /// Why, in the words of who asked.
    pub reason: String,
    /// Who asked.
    pub by: Peer,
    /// Whether it was discovered: it may be gone for a while, and is still taken out when it comes back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discovered: bool,
}

impl Exception {
    fn key(&self) -> Key {
        (self.service.clone(), self.backend.clone())
    }

    /// How long it lasts yet; `None`: until somebody ends it.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.until.map(|until| until.duration_since(now).unwrap_or_default())
    }
}

/// This node, while people do not want traffic here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDrain {
    /// Since when.
    pub since: SystemTime,
    /// Until when; `None`: until somebody resumes it.
    pub until: Option<SystemTime>,
    /// Why, in the words of who asked.
    pub reason: String,
    /// Who asked.
    pub by: Peer,
}

/// Every exception there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    backends: BTreeMap<Key, Exception>,
    /// The node's own.
    pub node: Option<NodeDrain>,
}

impl Exceptions {
    /// What people decided about a backend.
    #[must_use]
    pub fn state(&self, key: &Key) -> AdminState {
        self.backends.get(key).map_or(AdminState::Ready, |exception| exception.state)
    }

    /// The exception for a backend.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Exception> {
        self.backends.get(key)
    }

    /// All of them, by service and backend.
    pub fn iter(&self) -> impl Iterator<Item = &Exception> {
        self.backends.values()
    }

    /// Those that began longer ago than `age`.
    pub fn older_than(&self, age: Duration, now: SystemTime) -> impl Iterator<Item = &Exception> {
        self.iter().filter(move |exception| {
            now.duration_since(exception.since).is_ok_and(|since| since > age)
        })
    }

    /// Takes a backend out, or changes how it is.
    pub fn set(&mut self, exception: Exception) {
        self.backends.insert(exception.key(), exception);
    }

    /// Ends the exception for a backend.
    pub fn end(&mut self, key: &Key) -> Option<Exception> {
        self.backends.remove(key)
    }

    /// Ends the node's drain, if its time is up.
    pub fn settle_node(&mut self, now: SystemTime) -> Option<NodeDrain> {
        self.node.take_if(|drain| drain.until.is_some_and(|until| until <= now))
    }

    /// Ends those whose time is up, and those of backends that are configured no longer.
    pub fn settle(
        &mut self,
        now: SystemTime,
        configured: impl Fn(&Exception) -> bool,
    ) -> Vec<(Exception, Ended)> {
        let mut ended = Vec::new();
        self.backends.retain(|_, exception| {
            let how = match exception.until {
                _ if !configured(exception) => Ended::Removed,
                Some(until) if until <= now => Ended::TimeUp,
                _ => return true,
            };
            ended.push((exception.clone(), how));
            false
        });
        ended
    }

    /// When the next one ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<SystemTime> {
        self.backends.values().filter_map(|exception| exception.until).min()
    }
}

impl FromIterator<Exception> for Exceptions {
    fn from_iter<I: IntoIterator<Item = Exception>>(exceptions: I) -> Self {
        let backends = exceptions.into_iter().map(|exception| (exception.key(), exception));
        Self { backends: backends.collect(), node: None }
    }
}

/// Why an exception ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time is up.
    TimeUp,
    /// Its backend is configured no longer.
    Removed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(backend: &str, seconds: Option<u64>) -> Exception {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        Exception {
            service: "web".into(),
            backend: backend.into(),
            state: AdminState::Drain,
            since,
            until: seconds.map(|seconds| since + Duration::from_secs(seconds)),
            reason: "kernel upgrade".into(),
            by: Peer::of(0),
            discovered: false,
        }
    }

    #[test]
    fn spans_are_read_as_they_are_shown() {
        for text in ["30m", "1day", "forever"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap(), Span::For(Duration::from_secs(90)));
        for (text, says) in [
            ("soon", "30m"),
            ("", "30m"),
            ("10ms", "second"),
            ("31days", "forever"),
            ("1y", "forever"),
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn exceptions_end_by_themselves_or_with_their_backend() {
        let all = [exception("a", Some(60)), exception("b", None), exception("c", Some(90))];
        let mut exceptions: Exceptions = all.into_iter().collect();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds);
        assert_eq!(exceptions.next_end(), Some(at(60)));
        assert_eq!(exceptions.settle(at(59), |_| true), []);
        let old = |age| exceptions.older_than(Duration::from_secs(age), at(59)).count();
        assert_eq!((old(58), old(59)), (3, 0));
        let key = ("web".to_owned(), "a".to_owned());
        assert_eq!(exceptions.get(&key).unwrap().left(at(59)), Some(Duration::from_secs(1)));
        assert_eq!(
            exceptions.settle(at(60), |_| true),
            [(exception("a", Some(60)), Ended::TimeUp)]
        );
        assert_eq!(exceptions.state(&key), AdminState::Ready);
        let gone = exceptions.settle(at(61), |exception| exception.backend != "c");
        assert_eq!(gone, [(exception("c", Some(90)), Ended::Removed)]);
        assert_eq!(exceptions.next_end(), None, "b stays until somebody ends it");
        assert_eq!(exceptions.iter().count(), 1);
    }

    #[test]
    fn a_nodes_drain_ends_by_itself_too() {
        let mut exceptions = Exceptions::default();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let drain = |until| {
            let (reason, by) = ("new kernel".to_owned(), Peer::of(0));
            NodeDrain { since: at(0), until, reason, by }
        };
        exceptions.node = Some(drain(Some(at(60))));
        assert_eq!(exceptions.settle_node(at(59)), None);
        assert_eq!(exceptions.settle_node(at(60)), Some(drain(Some(at(60)))));
        assert_eq!(exceptions.node, None);
        exceptions.node = Some(drain(None));
        assert_eq!(exceptions.settle_node(at(1 << 40)), None);
    }
}
