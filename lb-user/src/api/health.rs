//! The probe of a new service as the API takes it: the keys of `[service.health]` that make it what it
//! is. Times and thresholds are the defaults; the file can say more.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    config::HealthCheck,
    health::{ExecProbe, GrpcProbe, HttpProbe, ProbeKind, TlsCheck, UdpProbe},
};

/// The health check of a new service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum NewHealth {
    /// None.
    #[default]
    None,
    /// A TCP connection.
    Tcp,
    /// An HTTP request for `path`.
    Http {
        /// The path, from `/`.
        path: String,
        /// The `Host` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// The same over TLS.
    Https {
        /// The path, from `/`.
        path: String,
        /// The `Host` header, and the certificate's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Whether the certificate must be valid and trusted.
        #[serde(default = "yes")]
        verify: bool,
        /// Authorities to trust instead of the system's (PEM).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
        /// The certificate's name where it is not the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
    /// A datagram, and its answer.
    Udp {
        /// What is sent.
        send: String,
        /// What the answer must contain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<String>,
    },
    /// The gRPC health service.
    Grpc {
        /// The service asked about; absent: the server as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Whether to speak TLS.
        #[serde(default)]
        tls: bool,
        /// The authority of the request, and the certificate's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Whether the certificate must be valid and trusted.
        #[serde(default = "yes")]
        verify: bool,
        /// Authorities to trust instead of the system's (PEM).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
        /// The certificate's name where it is not the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
    /// A program.
    Exec {
        /// The program by its absolute path, and its arguments.
        command: Vec<String>,
        /// The user that it runs as; absent: `nobody`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
}

fn yes() -> bool {
    true
}

impl From<NewHealth> for HealthCheck {
    fn from(new: NewHealth) -> Self {
        Self::of(match new {
            NewHealth::None => return Self::None,
            NewHealth::Tcp => ProbeKind::Tcp,
            NewHealth::Http { path, host } => {
                ProbeKind::Http(HttpProbe { path, host, ..HttpProbe::default() })
            }
            NewHealth::Https { path, host, verify, ca_file, server_name } => ProbeKind::Https {
                exchange: HttpProbe { path, host, ..HttpProbe::default() },
                tls: TlsCheck { verify, ca_file, server_name },
            },
            NewHealth::Udp { send, expect } => ProbeKind::Udp(UdpProbe {
                send: send.into_bytes(),
                expect: expect.map(String::into_bytes),
            }),
            NewHealth::Grpc { service, tls, host, verify, ca_file, server_name } => {
                let tls = tls.then_some(TlsCheck { verify, ca_file, server_name });
                ProbeKind::Grpc(GrpcProbe { service, host, tls })
            }
            NewHealth::Exec { command, user } => ProbeKind::Exec(ExecProbe {
                command,
                user: user.unwrap_or_else(|| ExecProbe::USER.to_owned()),
                environment: Vec::new(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_as_the_configuration_does() {
        for (text, kind) in [
            (r#"{"kind":"none"}"#, "none"),
            (r#"{"kind":"tcp"}"#, "tcp"),
            (r#"{"kind":"http","path":"/"}"#, "http"),
            (r#"{"kind":"https","path":"/","ca_file":"/etc/ca.pem"}"#, "https"),
            (r#"{"kind":"udp","send":"ping","expect":"pong"}"#, "udp"),
            (r#"{"kind":"grpc","service":"shop.Cart","tls":true,"verify":false}"#, "grpc"),
            (r#"{"kind":"exec","command":["/bin/true"],"user":"daemon"}"#, "exec"),
        ] {
            let new: NewHealth = serde_json::from_str(text).unwrap();
            let again = serde_json::to_string(&new).unwrap();
            assert_eq!(serde_json::from_str::<NewHealth>(&again).unwrap(), new, "{text}");
            assert_eq!(HealthCheck::from(new).kind(), kind);
            // Kinds without keys of their own take no notice of any.
            if matches!(kind, "none" | "tcp") {
                continue;
            }
            let unknown = text.replace('}', r#","colour":"red"}"#);
            assert!(serde_json::from_str::<NewHealth>(&unknown).is_err(), "{unknown}");
        }
    }
}
