//! The API on the Unix socket: HTTP and JSON in, commands to the controller, problems out.

mod access;
mod client;
pub mod configuration;
mod connections;
mod groups;
mod health;
pub mod listing;
pub mod model;
mod peer;
mod problem;
mod server;

pub use self::{
    access::Access,
    client::{Client, ClientError},
    peer::Peer,
    problem::Problem,
    server::{Socket, bind, serve},
};
