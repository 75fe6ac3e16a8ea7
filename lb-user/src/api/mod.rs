//! The API on the Unix socket: HTTP and JSON in, commands to the controller, problems out.

mod access;
mod alerts;
mod client;
pub mod configuration;
mod connections;
mod counters;
mod discovery;
pub mod events;
pub mod explain;
mod fleet;
mod groups;
mod health;
pub mod listing;
pub mod model;
mod node;
mod peer;
mod problem;
mod server;
pub mod stream;

pub use self::{
    access::Access,
    client::{Client, ClientError},
    connections::serve_on,
    peer::Peer,
    problem::Problem,
    server::{Socket, bind, serve},
};
