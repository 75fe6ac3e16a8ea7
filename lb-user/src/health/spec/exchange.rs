//! What is asked and what passes, of the kinds of probe that are not HTTP.

use std::fmt::Write as _;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::TlsCheck;

/// A datagram, and the answer that counts as healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpProbe {
    /// What is sent, at most [`UdpProbe::MOST`] bytes.
    pub send: Vec<u8>,
    /// Bytes that the answer must contain; any answer passes when absent.
    pub expect: Option<Vec<u8>>,
}

/// A question to the gRPC health service (`grpc.health.v1.Health/Check`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrpcProbe {
    /// The service asked about; the server as a whole when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The authority of the request; the target's address and port when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Over TLS, with this asked of the certificate; in plaintext when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsCheck>,
}

/// A program whose exit code is the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecProbe {
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// What it finds in its environment besides the path and the target; the caller's to fill.
    #[serde(skip)]
    pub environment: Vec<(&'static str, String)>,
}

impl UdpProbe {
    /// Bytes that one packet carries on any usual path.
    pub const MOST: usize = 1_400;

    /// Its keys and values as the configuration writes them: text where it is text, else
    /// hexadecimal digits under `send_hex` and `expect_hex`.
    #[must_use]
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let write = |plain, hex, bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => (plain, text.to_owned()),
            _ => (hex, to_hex(bytes)),
        };
        let mut keys = vec![write("send", "send_hex", &self.send)];
        keys.extend(self.expect.iter().map(|bytes| write("expect", "expect_hex", bytes)));
        keys
    }
}

impl ExecProbe {
    /// The user that programs run as where none is named.
    pub const USER: &'static str = "nobody";
}

impl Serialize for UdpProbe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = self.keys();
        let mut map = serializer.serialize_map(Some(keys.len()))?;
        for (key, value) in keys {
            map.serialize_entry(key, &value)?;
        }
        map.end()
    }
}

/// Two digits a byte.
pub(in crate::health) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_written_as_text_where_they_are_text() {
        let probe = UdpProbe { send: b"ping\0".to_vec(), expect: Some("pöng".into()) };
        assert_eq!(
            probe.keys(),
            [("send_hex", "70696e6700".to_owned()), ("expect", "pöng".to_owned())]
        );
    }
}
