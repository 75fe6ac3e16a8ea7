//! The API on the Unix socket: HTTP and JSON in, commands to the controller, problems out.

mod client;
mod health;
pub mod model;
mod problem;
mod server;

pub use self::{
    client::{Client, ClientError},
    problem::Problem,
    server::{bind, serve},
};
