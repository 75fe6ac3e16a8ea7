//! Announcing: an address of services is told to the network's routers while this node can serve it.
//!
//! [`Gate`] decides, purely: what a look saw, and the time, to announced or not. [`Desk`] keeps a gate for each
//! address and says what changed; the controller asks it. The [`Announcer`] carries out: a task that puts
//! addresses on interfaces (`address`), runs hooks, and knows what ExaBGP was told (`exabgp`). What it
//! added is noted (`record`), so that it takes away nothing else, also after a crash.
//!
//! It speaks no routing protocol: BIRD, FRR, ExaBGP and keepalived do.

mod address;
mod announcer;
mod desk;
pub mod exabgp;
mod gate;
mod record;

pub use self::{
    announcer::{Announcer, Carried, clean_up},
    desk::{Desk, Order, Turn, View},
    gate::{Fitness, Gate, Timing},
};
