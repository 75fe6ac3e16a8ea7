//! What an event is: a change, when it was, what it was about, who asked for it and why.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::api::Peer;

/// Bytes that a text of an event has at the most; the rest is cut off.
const LONGEST_TEXT: usize = 2048;

/// What kind of change it was. Kinds are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The daemon started: over a data path of its own, or one that it took over.
    Started,
    /// The daemon was told to stop. The data path goes on.
    Stopped,
    /// Probes changed their verdict of a backend.
    Health,
    /// An agent said something else about its backend, or fell silent.
    Agent,
    /// Connections of a backend failed, and it was taken out for that.
    Ejected,
    /// The time of an ejection is over.
    Returned,
    /// People took a backend out or brought it back, or the time of that was up.
    Admin,
    /// A backend gets new connections now, or gets none any more.
    Active,
    /// No backend of a service is up, or one is again.
    AllDown,
    /// Somebody had open connections cut.
    Connections,
    /// A service or backend was added, removed or set.
    Membership,
    /// The configuration was applied, reloaded, rolled back, confirmed, taken back or edited by hand.
    Configuration,
    /// An alert began.
    AlertRaised,
    /// An alert ended.
    AlertCleared,
    /// The kernel's tables or pins were not what was written, and were mended.
    Drift,
    /// An interface was lost, or came back.
    Interface,
    /// The way to a backend's address was lost, or came back.
    NextHop,
    /// An address is announced to routers.
    Announce,
    /// An address is withdrawn.
    Withdraw,
    /// A source of backends gives no usable answer, or does so again.
    Discovery,
    /// Something keeps the daemon from working as it should, or does so no longer.
    Trouble,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

impl Kind {
    /// Every kind that can be asked for.
    pub const ALL: [Self; 21] = [
        Self::Started,
        Self::Stopped,
        Self::Health,
        Self::Agent,
        Self::Ejected,
        Self::Returned,
        Self::Admin,
        Self::Active,
        Self::AllDown,
        Self::Connections,
        Self::Membership,
        Self::Configuration,
        Self::AlertRaised,
        Self::AlertCleared,
        Self::Drift,
        Self::Interface,
        Self::NextHop,
        Self::Announce,
        Self::Withdraw,
        Self::Discovery,
        Self::Trouble,
    ];

    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Health => "health",
            Self::Agent => "agent",
            Self::Ejected => "ejected",
            Self::Returned => "returned",
            Self::Admin => "admin",
            Self::Active => "active",
            Self::AllDown => "all-down",
            Self::Connections => "connections",
            Self::Membership => "membership",
            Self::Configuration => "configuration",
            Self::AlertRaised => "alert-raised",
            Self::AlertCleared => "alert-cleared",
            Self::Drift => "drift",
            Self::Interface => "interface",
            Self::NextHop => "next-hop",
            Self::Announce => "announce",
            Self::Withdraw => "withdraw",
            Self::Discovery => "discovery",
            Self::Trouble => "trouble",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Text that is no [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of event; the kinds are: {all}", all = Kind::ALL.map(Kind::name).join(", "))]
pub struct NotAKind(String);

impl FromStr for Kind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| NotAKind(text.to_owned()))
    }
}

/// How much an event matters: as the log has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    #[default]
    Info,
    /// Somebody should know.
    Warning,
    /// Somebody should do something.
    Error,
}

/// A change that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises from each event to the next, over restarts too; not without gaps.
    pub id: u64,
    /// When, RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// What kind of change.
    pub kind: Kind,
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
    /// The service that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend of that service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Who asked for it; absent where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Peer>,
    /// The reason: in the words of who asked, or what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The whole, for people.
    pub message: String,
}

/// A change to be noted: an [`Event`] before it has its place.
#[derive(Clone, Debug)]
#[must_use = "nobody knows of it before it is noted"]
pub struct Note {
    pub(super) kind: Kind,
    pub(super) level: Level,
    pub(super) service: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) who: Option<Peer>,
    pub(super) why: Option<String>,
    pub(super) message: String,
}

impl Note {
    /// A change as it should be, about nobody in particular.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = bounded(message.into());
        let (service, backend, who, why) = (None, None, None, None);
        Self { kind, level: Level::Info, service, backend, who, why, message }
    }

    /// It is about a service.
    pub fn service(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// It is about a service's backend.
    pub fn backend(mut self, service: &str, backend: &str) -> Self {
        self.backend = Some(backend.to_owned());
        self.service(service)
    }

    /// Somebody asked for it.
    pub fn by(mut self, who: &Peer) -> Self {
        self.who = Some(who.clone());
        self
    }

    /// There is a reason.
    pub fn because(mut self, why: impl Into<String>) -> Self {
        let why = why.into();
        self.why = (!why.is_empty()).then(|| bounded(why));
        self
    }

    /// Somebody should know.
    pub fn warning(self) -> Self {
        self.at(Level::Warning)
    }

    /// Somebody should do something.
    pub fn error(self) -> Self {
        self.at(Level::Error)
    }

    /// It matters this much.
    pub fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    pub(super) fn placed(self, id: u64, at: String) -> Event {
        let Self { kind, level, service, backend, who, why, message } = self;
        Event { id, at, kind, level, service, backend, who, why, message }
    }
}

/// What of the events is asked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this service.
    pub service: Option<String>,
    /// About a backend of this name.
    pub backend: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// From then on, as [`Event::at`] is written.
    pub since: Option<String>,
}

impl Filter {
    /// Whether an event is asked for.
    #[must_use]
    pub fn fits(&self, event: &Event) -> bool {
        let same =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        same(&self.service, &event.service)
            && same(&self.backend, &event.backend)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.since.as_ref().is_none_or(|since| *since <= event.at)
    }
}

/// A text that is not too long.
fn bounded(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
        }
        assert!("weather".parse::<Kind>().unwrap_err().to_string().contains("membership"));
        assert_eq!(serde_json::from_str::<Kind>("\"weather\"").unwrap(), Kind::Other);
    }

    #[test]
    fn a_text_has_its_bound() {
        let note = Note::new(Kind::Health, "ä".repeat(LONGEST_TEXT)).because("");
        assert!(note.message.len() <= LONGEST_TEXT + '…'.len_utf8());
        assert!(note.message.ends_with("ä…"));
        assert_eq!(note.why, None);
    }
}
