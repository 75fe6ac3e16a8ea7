//! Answers in words.

use lb_common::{explain::meets, verdict::Verdict};

use super::{Explanation, Facts, Outcome};
use crate::config::Scheduler;

/// Why it is so, in a sentence.
pub(super) fn why(explained: &Explanation, facts: &Facts, verdict: Option<Verdict>) -> String {
    let slot = explained.slot.unwrap_or_default();
    let of = format!("slot {slot} of {}", explained.slots);
    match explained.outcome {
        Outcome::Existing => {
            let state = explained.connection.as_ref().map_or("open", |met| state_name(met.state));
            format!("there is a connection between these ends, which is {state}")
        }
        Outcome::Sticky => {
            "the service is sticky, and the client's last new connection went there".to_owned()
        }
        Outcome::Slot => match facts.scheduler {
            Scheduler::Maglev => format!("maglev: the hash of both ends names {of}"),
            Scheduler::SourceHash => {
                format!("source-hash: the hash of the client's address names {of}")
            }
            _ => format!(
                "round-robin: the cursor stands at {of}; other connections that come first move it on"
            ),
        },
        Outcome::Drawn if explained.candidates.len() == 1 => {
            format!("{} alone has room", explained.candidates[0].backend)
        }
        Outcome::Drawn => match facts.scheduler {
            Scheduler::LeastConnections => {
                "least-connections: the less loaded of two that are drawn at random by their share"
                    .to_owned()
            }
            Scheduler::Random => "random: drawn by their share".to_owned(),
            _ => "the backends that the scheduler names are full; another one is drawn".to_owned(),
        },
        Outcome::Overflow => {
            let full = explained.full.join(", ");
            format!("the slots that are tried name {full}, which take no more; this one has room")
        }
        Outcome::TurnedAway => turned_away(facts, verdict.unwrap_or(Verdict::DROP_INTERNAL)),
    }
}

const fn state_name(stage: crate::dataplane::Stage) -> &'static str {
    use crate::dataplane::Stage;
    match stage {
        Stage::Opening => "opening",
        Stage::Established => "established",
        Stage::Closing => "closing",
        Stage::Closed => "over and lingers",
    }
}

fn turned_away(facts: &Facts, verdict: Verdict) -> String {
    match verdict {
        Verdict::DROP_DENIED => "the client's prefix may not connect, by [node] or by the service".to_owned(),
        Verdict::DROP_CLIENT_LIMIT => "the client's prefix has used up its rate of new connections for now".to_owned(),
        Verdict::DROP_SERVICE_LIMIT => "the service has used up its rate of new connections for now".to_owned(),
        Verdict::DROP_NO_BACKEND => "no backend is active".to_owned(),
        Verdict::DROP_OVERLOAD => {
            let full = facts.backends.iter().filter(|one| one.share > 0.0 && !one.has_room());
            let full: Vec<_> = full
                .map(|one| {
                    let most = one.max_connections.unwrap_or_default();
                    format!("{} ({} of {most})", one.backend, one.established)
                })
                .collect();
            format!("every active backend has all the connections that it takes: {}", full.join(", "))
        }
        Verdict::PASS_NO_SERVICE | Verdict::PASS_NOT_OURS => {
            "the data path knows no such service yet; see `evenkeel status` for what keeps the daemon".to_owned()
        }
        other => other.meaning().to_owned(),
    }
}

/// What else bears on it.
pub(super) fn notes(explained: &Explanation, facts: &Facts, met: u32) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(connection) = &explained.connection {
        let backend = &connection.backend;
        match met {
            meets::OVER => notes.push(format!(
                "a connection of these ends, with {backend}, is over and makes room for a new one"
            )),
            meets::FAILED => notes.push(format!(
                "{backend} refused the attempt or did not answer it in time: another one is tried"
            )),
            _ => {}
        }
    }
    if explained.port_assumed {
        let port = explained.client.rsplit_once(':').map_or("", |(_, port)| port);
        let depends = match (explained.outcome, facts.scheduler) {
            (Outcome::Slot | Outcome::Overflow, Scheduler::Maglev) => {
                "maglev goes by the port, too, so another port may get another backend"
            }
            _ => "the answer for a new connection is the same from every other port",
        };
        notes.push(format!("asked for client port {port}, as none was given; {depends}"));
    }
    if explained.outcome != Outcome::Overflow && !explained.full.is_empty() {
        notes.push(format!("passed over, being full: {}", explained.full.join(", ")));
    }
    notes
}
