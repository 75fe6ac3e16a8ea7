//! Whom TLS probes trust: the system's authorities, those of a file, or anybody.
//!
//! It reads certificates and knows neither targets nor requests.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::TlsCheck;

/// A renewed file of authorities is read again after this time at the latest.
const FRESH: Duration = Duration::from_mins(1);

/// Settings by what they depend on, with the time when they were made.
type Known = HashMap<Trust, (Instant, Arc<ClientConfig>)>;

/// Reading the system's authorities takes milliseconds: not for every attempt.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What settings depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Trust {
    verify: bool,
    ca_file: Option<PathBuf>,
    protocol: &'static str,
}

/// Why there are no authorities to trust.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthorities {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file holds no certificate, or something that is none.
    #[error("{0}")]
    File(String),
    /// The system has none.
    #[error("this system has no certificates of authorities")]
    System,
}

/// The authorities of a PEM file.
///
/// # Errors
/// A file that cannot be read, has no certificate, or has one that cannot be used.
pub(crate) fn authorities(file: &Path) -> Result<RootCertStore, NoAuthorities> {
    let text = fs::read(file).map_err(NoAuthorities::Unreadable)?;
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(&text)) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|found| store.add(found).map_err(|error| error.to_string()));
        if let Err(error) = added {
            let message = format!("its certificate number {number} cannot be used: {error}");
            return Err(NoAuthorities::File(message));
        }
    }
    if store.is_empty() {
        return Err(NoAuthorities::File("holds no certificate (PEM)".to_owned()));
    }
    Ok(store)
}

/// The settings of a TLS client that asks for `protocol` (ALPN).
pub(super) async fn client(
    check: &TlsCheck,
    protocol: &'static str,
) -> Result<Arc<ClientConfig>, NoAuthorities> {
    let (verify, ca_file) = (check.verify, check.ca_file.clone());
    let trust = Trust { verify, ca_file, protocol };
    let mut known = KNOWN.lock().await;
    known.retain(|_, (made, _)| made.elapsed() < FRESH);
    if let Some((_, client)) = known.get(&trust) {
        return Ok(Arc::clone(client));
    }
    let wanted = trust.clone();
    let made = spawn_blocking(move || make(&wanted)).await;
    let client = made.map_err(|error| NoAuthorities::File(error.to_string()))??;
    let client = Arc::new(client);
    known.insert(trust, (Instant::now(), Arc::clone(&client)));
    Ok(client)
}

/// The same for a client that sets the protocols that it asks for itself.
pub(crate) async fn tls_client(check: &TlsCheck) -> Result<ClientConfig, NoAuthorities> {
    let mut client = ClientConfig::clone(&*client(check, "http/1.1").await?);
    client.alpn_protocols.clear();
    Ok(client)
}

fn make(trust: &Trust) -> Result<ClientConfig, NoAuthorities> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| NoAuthorities::File(error.to_string()))?;
    let mut client = if trust.verify {
        let store = match &trust.ca_file {
            Some(file) => authorities(file)?,
            None => system()?,
        };
        builder.with_root_certificates(store).with_no_client_auth()
    } else {
        let anybody = Arc::new(Anybody(provider));
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    client.alpn_protocols = vec![trust.protocol.as_bytes().to_vec()];
    // A session that is taken up again shows no certificate, and one that expired would pass.
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn system() -> Result<RootCertStore, NoAuthorities> {
    let mut store = RootCertStore::empty();
    // A system's store may hold a few that are out of date or of another kind; the rest will do.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(NoAuthorities::System) } else { Ok(store) }
}

/// Takes any certificate, as long as the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
