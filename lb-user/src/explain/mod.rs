//! `evenkeel explain`: which backend a client's next connection gets, and why.
//!
//! The `explain` program is asked (`question`), which goes by the tables that packets go by, and changes
//! nothing in them. What it says in numbers is put into words here, purely.

mod question;
mod words;

use std::net::SocketAddr;

use lb_common::explain::{Answer, NONE, outcome};
use serde::{Deserialize, Serialize};

pub use self::question::ask;
use crate::{
    config::{Protocol, Scheduler},
    connections::Directory,
    dataplane::Stage,
    plan::BackendId,
};

/// What is known of a service beside what the program says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name.
    pub service: String,
    /// Its address and port; port zero: every port.
    pub address: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Its backends that are configured, in the order of the configuration.
    pub backends: Vec<Standing>,
    /// Names of everything that has an id.
    pub directory: Directory,
}

/// How a backend stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub backend: String,
    /// Its part of the service's ring, from 0 to 1.
    pub share: f64,
    /// What it does, as in `status`.
    pub state: String,
    /// Connections established now, by the program's own count.
    pub established: u64,
    /// How many it takes at the most; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

impl Standing {
    fn has_room(&self) -> bool {
        self.max_connections.is_none_or(|most| self.established < u64::from(most))
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is there already: its packets go to its backend.
    Existing,
    /// The client keeps its backend.
    Sticky,
    /// A slot of the ring names the backend.
    Slot,
    /// Drawn at random when it comes.
    Drawn,
    /// The backends that the scheduler names are full: another one that has room.
    Overflow,
    /// It gets no backend.
    TurnedAway,
}

/// The answer: `GET /v1/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The service's name.
    pub service: String,
    /// The client's address and port.
    pub client: String,
    /// Whether the port was chosen here, because none was asked about.
    pub port_assumed: bool,
    /// The address and port that the client talks to.
    pub destination: String,
    /// The protocol.
    pub protocol: Protocol,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The backend's name; absent where it gets none, or it is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The verdict's name, as `counters` has it; absent where it gets a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The connection of these very ends, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Met>,
    /// The slot of the ring, from zero; absent where no slot decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Slots of the ring.
    pub slots: u32,
    /// How many turns of the ring's cursor were taken.
    pub cursor: u64,
    /// Names of backends that would have been chosen, and have no room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full: Vec<String>,
    /// Where it is drawn: among these, each with its part of the ring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Standing>,
    /// Why, in a sentence.
    pub why: String,
    /// What else bears on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A connection that is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Its backend's name.
    pub backend: String,
    /// How far it is.
    pub state: Stage,
}

/// Puts an answer of the program into words. `assumed`: the client's port was chosen here.
///
/// # Errors
///
/// Where the answer is none.
pub fn explain(
    answer: &Answer,
    facts: &Facts,
    client: SocketAddr,
    destination: SocketAddr,
    assumed: bool,
) -> anyhow::Result<Explanation> {
    let outcome = match answer.outcome {
        outcome::EXISTS => Outcome::Existing,
        outcome::STICKY => Outcome::Sticky,
        outcome::SLOT => Outcome::Slot,
        outcome::DRAWN => Outcome::Drawn,
        outcome::ANY => Outcome::Overflow,
        outcome::AWAY => Outcome::TurnedAway,
        other => anyhow::bail!("the explain program gave no answer ({other})"),
    };
    let named = |id: u32| {
        let unknown = || format!("id {id}");
        facts.directory.backend(BackendId(id)).map_or_else(unknown, |named| named.name.clone())
    };
    let some = |number: u32| (number != NONE).then_some(number);
    let candidates = match outcome {
        Outcome::Drawn => {
            let in_ring = facts.backends.iter().filter(|one| one.share > 0.0 && one.has_room());
            in_ring.cloned().collect()
        }
        _ => Vec::new(),
    };
    let met = some(answer.met);
    let met = met.map(|id| Met { backend: named(id), state: Stage::of(answer.state) });
    let verdict = some(answer.verdict).map(lb_common::verdict::Verdict::from_index);
    let mut full: Vec<String> = answer.full.iter().copied().filter_map(some).map(named).collect();
    full.dedup();
    let backend = some(answer.backend).filter(|_| outcome != Outcome::Drawn).map(named);
    let mut explanation = Explanation {
        service: facts.service.clone(),
        client: client.to_string(),
        port_assumed: assumed,
        destination: destination.to_string(),
        protocol: facts.protocol,
        outcome,
        backend,
        verdict: verdict.map(|verdict| verdict.name().to_owned()),
        connection: met,
        slot: some(answer.slot).filter(|_| outcome == Outcome::Slot),
        slots: answer.slots,
        cursor: u64::from(answer.cursor[1]) << 32 | u64::from(answer.cursor[0]),
        full,
        candidates,
        why: String::new(),
        notes: Vec::new(),
    };
    explanation.why = words::why(&explanation, facts, verdict);
    explanation.notes = words::notes(&explanation, facts, answer.meets);
    Ok(explanation)
}
