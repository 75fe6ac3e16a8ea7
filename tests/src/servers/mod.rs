//! What answers behind the balancer: a real nginx, a tiny web server, a UDP echo. Each says its
//! backend's name, so that a client can tell who served it. What answers probes alone stands beside
//! them, and so does etcd, which edges share their configuration by. None knows the balancer.

mod agent;
mod etcd;
mod nginx;
mod nsd;
mod shop;
mod tiny;
mod tls;
mod udp;

pub use self::{
    agent::Agent,
    etcd::{Etcd, Security, User},
    nginx::{Access, Nginx, big_file},
    nsd::{Nsd, ZONE},
    shop::{SHOP_PORT, Shop, pages_at_once, serve},
    tiny::TinyWeb,
    tls::TlsNginx,
    udp::{UdpEcho, UdpReply, ask, ask_again, client_socket},
};

/// The port that every server listens on, over both families.
pub const PORT: u16 = 8080;
/// The port of servers that speak TLS.
pub const TLS_PORT: u16 = 8443;
/// The port of agents.
pub const AGENT_PORT: u16 = 9100;
