//! What a probe asks of a server's certificate.

use std::{net::IpAddr, path::PathBuf};

use rustls::pki_types::ServerName;
use serde::Serialize;

/// What a probe asks of the certificate that it meets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TlsCheck {
    /// Whether the certificate must be valid now, for the name, and from an authority that is
    /// trusted. Without it anybody's will do.
    pub verify: bool,
    /// Certificates of the authorities to trust (PEM); the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The name to ask for (SNI) and to find in the certificate; the request's host when absent, or
    /// else the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for TlsCheck {
    fn default() -> Self {
        Self { verify: true, ca_file: None, server_name: None }
    }
}

/// Whether a certificate can be for `text`: a DNS name or an IP address.
pub(crate) fn is_server_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// The name or address of a `Host` header: `[2001:db8::1]:443` is `2001:db8::1`.
pub(crate) fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_without_its_port() {
        for (host, name) in [
            ("shop.example", "shop.example"),
            ("shop.example:8443", "shop.example"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name, "{host}");
            assert!(is_server_name(name), "{name}");
        }
        assert!(!is_server_name("two words") && !is_server_name(""));
    }
}
