//! `[http]`: where metrics and the dashboard are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

/// The listener for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Its address; absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Http {
    /// What says in the text that there is no listener.
    pub const OFF: &str = "off";
}

impl Default for Http {
    /// 127.0.0.1:9650.
    fn default() -> Self {
        Self { listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9650)) }
    }
}
