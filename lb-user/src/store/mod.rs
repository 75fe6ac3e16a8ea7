//! The store: what several edges share, in etcd. Services with their backends, and who is taken out by people.
//!
//! The configuration file of each edge has a copy of it, so that a start, a check or a rollback needs no etcd.
//! `shared` is what is under the prefix and whether it may be taken, `fleet` what edges tell of themselves (both
//! pure); `session` is the conversation with one member, and `task` goes from one to the next. What is done with
//! it the controller decides, in `controller/fleet`.

mod fleet;
pub mod kept;
mod session;
mod shared;
mod task;

pub use self::{
    fleet::{
        AlertReport, Disagreement, EdgeSeen, MOST_TOLD, Refusal, Report, ServiceReport,
        disagreements,
    },
    kept::Kept,
    shared::{Bases, Keys, Record, Snapshot, Unconfirmed},
    task::{Failure, Proposal, State, Store, Way},
};
