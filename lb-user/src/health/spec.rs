//! What to probe and how: the input of this module, as plain values.
//!
//! Serialised, they read as the configuration writes them. Nothing here opens a socket or reads a
//! file.

mod exchange;
mod http;
mod tls;

use std::{fmt, net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::{Serialize, Serializer};

pub(crate) use self::tls::{is_server_name, without_port};
pub use self::{
    exchange::{ExecProbe, GrpcProbe, UdpProbe},
    http::{HttpProbe, InvalidStatusSet, StatusSet},
    tls::TlsCheck,
};

/// One probe: where it goes, what it asks, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The backend's address and port.
    pub target: SocketAddr,
    /// What an attempt does.
    pub kind: ProbeKind,
    /// When attempts are made, and how many make a verdict.
    pub timing: Timing,
}

/// What an attempt does once it has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ProbeKind {
    /// Open a TCP connection and close it.
    Tcp,
    /// Send an HTTP/1.1 request and judge the answer.
    Http(HttpProbe),
    /// The same over TLS.
    Https {
        /// The request.
        #[serde(flatten)]
        exchange: HttpProbe,
        /// What is asked of the certificate.
        #[serde(flatten)]
        tls: TlsCheck,
    },
    /// Send a datagram and judge the answer.
    Udp(UdpProbe),
    /// Ask the gRPC health service.
    Grpc(GrpcProbe),
    /// Run a program and judge its exit code.
    Exec(ExecProbe),
}

/// When attempts are made, and how many of a kind in a row make a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// From the start of one attempt to the start of the next, within 10 ms and one day.
    #[serde(serialize_with = "human")]
    pub interval: Duration,
    /// The deadline of a whole attempt: connection, response and body; one hour at most.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
    /// Consecutive passes that make a backend up. Zero counts as one.
    pub rise: u32,
    /// Consecutive failures that make a backend down. Zero counts as one.
    pub fall: u32,
    /// The longest time that a backend which flaps is held down; `None`: it never is.
    #[serde(serialize_with = "human_or_false")]
    pub flap_damping: Option<Duration>,
}

impl Timing {
    /// For how long a backend that flaps is held down at the most, where nothing else is said.
    pub const FLAP_DAMPING: Duration = Duration::from_mins(1);
}

impl ProbeKind {
    /// Its name, as the configuration writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Https { .. } => "https",
            Self::Udp(_) => "udp",
            Self::Grpc(_) => "grpc",
            Self::Exec(_) => "exec",
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        let flap_damping = Some(Self::FLAP_DAMPING);
        Self { interval, timeout, rise: 2, fall: 3, flap_damping }
    }
}

/// `7` or `7-9`, in digits alone.
pub(crate) fn number_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| {
        let text = text.trim();
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then_some(low..=high)
}

fn human<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    shown(&humantime::format_duration(*duration), serializer)
}

#[expect(clippy::ref_option, reason = "serde gives the field by reference")]
fn human_or_false<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => human(duration, serializer),
        None => serializer.serialize_bool(false),
    }
}

fn shown<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
