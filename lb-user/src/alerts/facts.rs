//! What a look saw: plain data, from which the rules judge. Whoever makes it borrows what is there
//! already: there may be 65,536 backends, once a second.

use std::time::Duration;

use crate::{
    admin::{Exception, NodeDrain},
    api::model::{Announcement, Delivery, Interface, SourceStatus},
    plan::BackendId,
};

/// What a look saw.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// The services.
    pub services: Vec<ServiceFacts<'a>>,
    /// Interfaces of the configuration that something is wrong with.
    pub interfaces: Vec<Interface>,
    /// The connection tables.
    pub table: TableFacts,
    /// How often the kernel's tables were mended.
    pub repairs: u64,
    /// What differed last.
    pub repaired: &'a str,
    /// The configuration file that is not what is at work, and how it differs.
    pub edited: Option<(&'a str, &'a str)>,
    /// How late a probe began since the last facts, at the most.
    pub probe_late: Duration,
    /// How late this look was.
    pub look_late: Duration,
    /// How the deliveries go.
    pub deliveries: Vec<Delivery>,
    /// What is announced.
    pub announcements: Vec<Announcement>,
    /// How people drained the node, and for how long it has been.
    pub node_drain: Option<(&'a NodeDrain, Duration)>,
    /// The store that edges share; `None`: there is none.
    pub store: Option<StoreFacts<'a>>,
}

/// The store that edges share.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts<'a> {
    /// Whether a member answers.
    pub connected: bool,
    /// Why none does, or why other edges do not hear of this one; empty: all is well.
    pub problem: String,
    /// The revision that is at work here.
    pub revision: u64,
    /// The revision that is not taken here, and why.
    pub refused: Option<(u64, &'a str)>,
    /// Edges that are not heard.
    pub lost: Vec<&'a str>,
    /// Edges that are heard and have not the newest revision, and why.
    pub behind: Vec<(&'a str, String)>,
}

/// The connection tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableFacts {
    /// Entries, of both families.
    pub entries: u64,
    /// Entries that there is room for in one family's, without those of unconfirmed connections.
    pub room: u64,
    /// Packets dropped because it was full, since the data path was made.
    pub refused: u64,
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct ServiceFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Backends that shall be active at the least.
    pub min_active: u32,
    /// What was counted over the last 10 s, 1 min and 10 min; `None` where nothing was.
    pub windows: [Option<WindowFacts<'a>>; 3],
    /// What is shared out.
    pub drawn: Drawn,
    /// Where more backends come from.
    pub sources: Vec<SourceStatus>,
    /// Its backends.
    pub backends: Vec<BackendFacts<'a>>,
}

/// What a service shares out, and chance has its part in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Drawn {
    /// Each connection anew.
    #[default]
    Connections,
    /// Clients, whose connections go the same way (`source-hash`, `sticky`): the new connections of a minute are
    /// worth so many draws. `None`: none were seen yet.
    Clients(Option<f64>),
}

/// New connections of a service over a while.
#[derive(Clone, Copy, Debug)]
pub struct WindowFacts<'a> {
    /// How long that is, in seconds.
    pub seconds: u64,
    /// Connections of all backends.
    pub connections: u64,
    /// The largest share over the fair one.
    pub index: f64,
    /// The coefficient of variation of shares over fair ones.
    pub variation: f64,
    /// Whose that share is.
    pub most: &'a str,
    /// The fair share of that one, 0 to 1.
    pub fair: f64,
}

/// A backend.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct BackendFacts<'a> {
    /// Its number in the tables; `None` where it is in none.
    pub id: Option<BackendId>,
    /// Its name.
    pub name: &'a str,
    /// Its weight.
    pub weight: u16,
    /// Whether it is a spare.
    pub is_backup: bool,
    /// How people took it out.
    pub exception: Option<&'a Exception>,
    /// For how long it has been.
    pub out_for: Duration,
    /// Whether people, and its agent, let it take part.
    pub admitted: bool,
    /// Whether it is up, and its connections do not fail.
    pub healthy: bool,
    /// Whether its probes have not judged it yet: nothing is known of it, or that it was up before a restart.
    pub awaited: bool,
    /// Whether it gets new connections.
    pub active: bool,
    /// Why it is not healthy.
    pub reason: String,
    /// Whether flap damping holds it down.
    pub held: bool,
    /// Whether no way leads to it.
    pub lost: bool,
    /// Open connections.
    pub open: u64,
    /// Open connections that it takes at the most.
    pub max_connections: Option<u32>,
    /// Open connections that it can carry.
    pub capacity: Option<u32>,
    /// What was counted since it was added.
    pub counts: Counts,
}

/// What was counted of a backend's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to it.
    pub opened: u64,
    /// Refused by it.
    pub refused: u64,
    /// Not answered.
    pub unanswered: u64,
    /// Established, and reset by it.
    pub reset: u64,
    /// Handshakes by their time, as [`lb_common::counters::handshake_bucket`] has it.
    pub handshakes: [u64; BUCKETS],
}

/// Buckets of handshakes.
pub const BUCKETS: usize = lb_common::counters::HANDSHAKE_BUCKETS;

impl BackendFacts<'_> {
    /// Whether it can take connections.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.admitted && self.healthy && !self.lost
    }
}

impl Counts {
    /// Those that failed.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.refused + self.unanswered + self.reset
    }
}

impl From<&lb_common::counters::BackendCounters> for Counts {
    fn from(raw: &lb_common::counters::BackendCounters) -> Self {
        Self {
            opened: raw.opened,
            refused: raw.refused,
            unanswered: raw.unanswered,
            reset: raw.reset,
            handshakes: raw.handshakes,
        }
    }
}
