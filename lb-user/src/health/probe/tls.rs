//! TLS towards a backend, and what was wrong with its certificate.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{
    CertificateError, Error,
    pki_types::{ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::{
        TlsCheck,
        spec::without_port,
        trust::{self, NoAuthorities},
    },
    Deadline, ProbeFailure, Stage,
};

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// Nobody is trusted.
    #[error("{} {source}", subject(.file.as_deref()))]
    Trust {
        /// The file of authorities; `None`: the system's.
        file: Option<PathBuf>,
        /// What is wrong with it.
        source: NoAuthorities,
    },
    /// The name to ask for cannot be one.
    #[error("{0:?} is no name or address that a certificate can be for; set server_name")]
    Name(String),
    /// The certificate is not one to trust.
    #[error("the certificate {0}")]
    Certificate(String),
    /// The handshake failed for another reason.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
}

fn subject(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!("ca_file {}", file.display()),
        None => "cannot verify the certificate:".to_owned(),
    }
}

/// Makes a TLS connection of `stream`, for `protocol` (ALPN). The name is that of `check`, else that
/// of `host`, else the address of `target`.
pub(super) async fn connect(
    stream: TcpStream,
    target: SocketAddr,
    check: &TlsCheck,
    host: Option<&str>,
    protocol: &'static str,
    deadline: &Deadline,
) -> Result<TlsStream<TcpStream>, ProbeFailure> {
    let named = check.server_name.as_deref().or(host.map(without_port));
    let name = named.map_or_else(|| target.ip().to_string(), str::to_owned);
    let server = ServerName::try_from(name.clone()).map_err(|_| TlsFailure::Name(name))?;
    let handshake = async {
        let client = trust::client(check, protocol)
            .await
            .map_err(|source| TlsFailure::Trust { file: check.ca_file.clone(), source })?;
        TlsConnector::from(client).connect(server, stream).await.map_err(|error| told(&error))
    };
    Ok(deadline.limit(Stage::Handshake, handshake).await??)
}

/// What a failed handshake says, in words.
fn told(error: &io::Error) -> TlsFailure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(fault)) => TlsFailure::Certificate(certificate(fault)),
        Some(Error::InvalidMessage(_)) => TlsFailure::Handshake("the answer is not TLS".to_owned()),
        Some(other) => TlsFailure::Handshake(other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            TlsFailure::Handshake("the server closed the connection".to_owned())
        }
        None => TlsFailure::Handshake(error.to_string()),
    }
}

/// What follows "the certificate".
fn certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired on {}", date(*not_after))
        }
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() {
                "nobody in particular".to_owned()
            } else {
                presented.join(", ")
            };
            format!("is not for {}, but for {names}", expected.to_str())
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::UnknownIssuer => {
            "is signed by no authority that is trusted (it may be self-signed); set ca_file"
                .to_owned()
        }
        CertificateError::BadSignature => "has a signature that is not its authority's".to_owned(),
        other => format!("is not valid: {other}"),
    }
}

fn date(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests;
