//! The configuration: TOML text, the file that holds it, and the rules of a valid one.
//!
//! A text is decoded by a walk that keeps every span (`decode`), judged by the rules that need
//! more than one value (`rules`), and becomes a [`Config`] of meaningful types. All diagnostics
//! are collected before any is reported, each with its line, column and remedy. Editing
//! ([`edit`]) changes only the bytes it must, so comments and format survive.
//!
//! Of [`health`](crate::health) it knows the plain values that say what a probe does, and no more.
//! It must not know the kernel's maps, netlink, the API or anything asynchronous.

pub mod alerts;
mod announce;
mod choices;
mod decode;
mod diagnostic;
mod discovery;
pub mod edit;
mod endpoint;
mod file;
mod host;
mod http;
mod index;
mod model;
mod prefix;
mod reference;
mod rules;
pub mod store;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub(crate) use self::decode::is_name;
pub use self::{
    announce::{Announce, AnnounceWay, Hook, OnStop},
    choices::{
        Forwarding, NotAValue, OnAllDown, OnDown, Overload, Protocol, Scheduler, Tier, XdpMode,
    },
    diagnostic::{Diagnostic, Invalid, Position, Severity},
    discovery::{Discovery, DiscoverySource, NotASource, Offer, Origin},
    edit::{BackendSpec, EditError, ServiceSpec},
    endpoint::{Endpoint, shown},
    file::{sweep_unfinished, write_atomically},
    host::HostFacts,
    http::Http,
    index::Index,
    model::{
        Availability, Backend, Config, HealthCheck, Limits, Nat, Node, Passive, PortRange, Probe,
        Rate, Service, Tables, Timeouts, Tunnel,
    },
    prefix::{NotAPrefix, Prefix, PrefixLists},
    reference::reference,
    store::{Store, StoreKind},
    verify::{Decimal, Verify},
};
use self::{
    decode::{PrefixFiles, RawConfig},
    diagnostic::{Sink, Source},
};
pub use crate::health::{
    AgentCheck, ExecProbe, GrpcProbe, HttpProbe, ProbeKind, StatusSet, Timing, TlsCheck, UdpProbe,
};

/// A valid configuration with what is worth saying about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is legal but dangerous, in the order of the text.
    pub warnings: Vec<Diagnostic>,
    /// The text that was parsed, byte for byte.
    pub text: String,
    /// A digest of the contents of each file of prefixes that was read, by its path.
    pub(crate) prefix_files: BTreeMap<PathBuf, u64>,
    file: PathBuf,
    places: Places,
}

/// Where the values stand that only the host can judge, in the order of the [`Config`]'s lists.
#[derive(Clone, Debug)]
struct Places {
    interfaces: Vec<Position>,
    source_addresses: Vec<Position>,
    service_addresses: Vec<Position>,
    /// Where the interface is named that a service's address is put on, or as near to that as can be.
    announce_interfaces: Vec<Position>,
}

impl Loaded {
    /// The same as the contents of the file at `path`, which diagnostics name.
    pub(crate) fn of_file(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.file);
        for warning in &mut self.warnings {
            path.clone_into(&mut warning.file);
        }
        self
    }
}

impl Config {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// Every diagnostic of an invalid file; a file that cannot be read is one diagnostic.
    pub fn load(path: &Path) -> Result<Loaded, Invalid> {
        let text = fs::read(path).map_err(|error| Invalid::unreadable(path, &error)).and_then(
            |bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| Invalid::not_utf8(path, error.utf8_error(), error.as_bytes()))
            },
        )?;
        Self::parse(&text, path)
    }

    /// Parses `text`; `origin` is the file that the diagnostics name, and its folder the one that
    /// files of prefixes are looked for in.
    ///
    /// # Errors
    /// Every error and warning of an invalid text, in the order of the text. A text that is not
    /// TOML gets its syntax errors alone: what follows from a line that could not be read misleads.
    pub fn parse(text: &str, origin: &Path) -> Result<Loaded, Invalid> {
        let folder = origin.parent().unwrap_or(Path::new(""));
        Self::parse_with(text, origin, PrefixFiles::new(Some(folder)))
    }

    /// Parses `text`, which `origin` names in diagnostics, as what may become the file at `path`: files
    /// of prefixes are looked for beside that.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_for(text: &str, origin: &Path, path: &Path) -> Result<Loaded, Invalid> {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse_with(text, origin, PrefixFiles::new(Some(folder)))
    }

    /// Parses `text` alone, without the files that it names.
    fn parse_text(text: &str) -> Result<Loaded, Invalid> {
        Self::parse_with(text, Path::new("evenkeel.toml"), PrefixFiles::new(None))
    }

    fn parse_with(
        text: &str,
        origin: &Path,
        mut files: PrefixFiles<'_>,
    ) -> Result<Loaded, Invalid> {
        let source = Source::new(text, origin);
        let mut sink = Sink::new(&source);
        let Some(raw) = decode::document(&mut sink, &mut files) else {
            return Err(Invalid { diagnostics: sink.into_diagnostics() });
        };
        rules::check(&raw, &mut sink);
        let places = Places::of(&raw, &source);
        let valid = sink.errors() == 0;
        let diagnostics = sink.into_diagnostics();
        match raw.into_config() {
            Some(config) if valid => Ok(Loaded {
                config,
                warnings: diagnostics,
                text: text.to_owned(),
                prefix_files: files.into_digests(),
                file: origin.to_owned(),
                places,
            }),
            _ => Err(Invalid { diagnostics }),
        }
    }
}

impl Places {
    fn of(raw: &RawConfig, source: &Source<'_>) -> Self {
        let position = |span: std::ops::Range<usize>| source.position(span.start);
        Self {
            interfaces: raw.interfaces.iter().map(|i| position(i.span())).collect(),
            source_addresses: raw.source_addresses.iter().map(|a| position(a.span())).collect(),
            service_addresses: raw
                .services
                .iter()
                .map(|s| position(s.address.as_ref().map_or(s.span.clone(), toml::Spanned::span)))
                .collect(),
            announce_interfaces: raw
                .services
                .iter()
                .map(|s| {
                    position(s.announce.as_ref().map_or(s.span.clone(), |a| a.interface.clone()))
                })
                .collect(),
        }
    }
}
