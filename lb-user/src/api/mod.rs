//! The API on the Unix socket: HTTP and JSON in, commands to the controller, problems out.

mod client;
pub mod configuration;
mod connections;
mod health;
pub mod model;
mod peer;
mod problem;
mod server;

pub use self::{
    client::{Client, ClientError},
    peer::Peer,
    problem::Problem,
    server::{bind, serve},
};
