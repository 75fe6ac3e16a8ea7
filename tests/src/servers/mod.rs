//! What answers behind the balancer: a real nginx, a tiny web server, a UDP echo. Each says its
//! backend's name, so that a client can tell who served it. None knows the balancer.

mod nginx;
mod tiny;
mod udp;

pub use self::{
    nginx::{Access, Nginx, big_file},
    tiny::TinyWeb,
    udp::{UdpEcho, UdpReply, ask, ask_again, client_socket},
};

/// The port that every server listens on, over both families.
pub const PORT: u16 = 8080;
