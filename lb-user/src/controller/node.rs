//! Draining this node: people do not want traffic here, for a time and with a reason.

use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use super::{Controller, Refused, administer::check_reason};
use crate::{
    admin::{NodeDrain, Span},
    api::{
        Peer,
        model::{Changed, ExceptionStatus, NodeStatus},
    },
    events::{Kind, Note},
};

/// What shall become of this node.
#[derive(Clone, Debug)]
pub enum NodeWish {
    /// Its addresses are withdrawn.
    Drain(Span, String),
    /// It takes part again.
    Resume,
}

impl Controller {
    /// Drains the node or has it back: notes it on disk, then follows it.
    pub(super) fn administer_node(
        &mut self,
        wish: NodeWish,
        by: &Peer,
    ) -> Result<Changed, Refused> {
        let now = self.clock.now();
        let before = self.condition.exceptions.node.clone();
        let (drain, message) = match wish {
            NodeWish::Drain(span, reason) => {
                check_reason(&reason)?;
                let until = match span {
                    Span::For(span) => Some(now + span),
                    Span::Forever => None,
                };
                let reason = reason.trim().to_owned();
                let drain = NodeDrain { since: now, until, reason, by: by.clone() };
                let message = format!("this node is drained {}", describe(&drain, now));
                (Some(drain), message)
            }
            NodeWish::Resume if before.is_none() => {
                let message = "this node is not drained".to_owned();
                return Ok(Changed { message, ..Changed::default() });
            }
            NodeWish::Resume => (None, "this node takes part again".to_owned()),
        };
        let reason = drain.as_ref().map(|drain| drain.reason.clone());
        self.condition.exceptions.node = drain;
        if let Err(error) = self.save_exceptions() {
            self.condition.exceptions.node = before;
            return Err(Refused::Failed(error));
        }
        let note = Note::new(Kind::Admin, &message).by(by);
        self.events.tell(match &reason {
            Some(reason) => note.because(reason).warning(),
            None => note,
        });
        self.announce(Instant::now());
        let mut changed = Changed { message, ..Changed::default() };
        if reason.is_some() && self.announced.orders().is_empty() {
            let warning = "nothing is announced by this daemon: traffic leaves only if something else asks \
                           `evenkeel healthcheck`, as keepalived can";
            changed.warnings.push(warning.to_owned());
        }
        Ok(changed)
    }

    /// Ends the drain, if its time is up; tells whether it was.
    pub(super) fn end_node_drain(&mut self) -> bool {
        let Some(drain) = self.condition.exceptions.settle_node(self.clock.now()) else {
            return false;
        };
        let message = format!("the time of this node's drain is up: {}", drain.reason);
        let note = Note::new(Kind::Admin, message).by(&Peer::named("daemon"));
        self.events.tell(note.because(&drain.reason));
        // What stays on disk ends again after a restart: its time is up then, too.
        if let Err(error) = self.save_exceptions() {
            error!("could not note that this node is not drained any more: {error:#}");
        }
        true
    }

    /// Reminds of the drain.
    pub(super) fn remind_of_node(&self) {
        if let Some(drain) = &self.condition.exceptions.node {
            let since = humantime::format_rfc3339_seconds(drain.since);
            let by = &drain.by;
            warn!(%by, %since, "this node is drained {}", describe(drain, self.clock.now()));
        }
    }

    /// This node as one of several edges.
    pub(super) fn node_status(&self) -> NodeStatus {
        let drain = self.condition.exceptions.node.as_ref();
        NodeStatus {
            problems: self.readiness(),
            drain: drain.map(|drain| ExceptionStatus::of_node(drain, self.clock.now())),
        }
    }
}

/// For how long it is drained, and why.
fn describe(drain: &NodeDrain, now: SystemTime) -> String {
    let span = match drain.until {
        Some(until) => {
            let left = until.duration_since(now).unwrap_or_default();
            format!(
                "for {} (until {})",
                humantime::format_duration(Duration::from_secs(left.as_secs())),
                humantime::format_rfc3339_seconds(until)
            )
        }
        None => "until somebody resumes it".to_owned(),
    };
    format!("{span}: {}", drain.reason)
}
