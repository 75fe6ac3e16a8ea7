//! HTTPS against real TLS servers with good and bad certificates.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::Mutex, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::health::{
    HttpProbe, ProbeKind, ProbeSpec, Timing, attempt,
    testing::{
        Script, answer,
        certificates::{Authority, Identity, self_signed},
        serve,
    },
};

/// A TLS server with a certificate, until it is dropped.
struct TlsServer {
    address: SocketAddr,
    /// The names that clients asked for.
    names: Arc<Mutex<Vec<Option<String>>>>,
    task: JoinHandle<()>,
}

impl TlsServer {
    async fn start(identity: Identity, script: Script) -> Self {
        let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.der().clone()], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&names);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let name = stream.get_ref().1.server_name().map(str::to_owned);
                seen.lock().await.push(name);
                tokio::spawn(serve(stream, script.clone(), Arc::default()));
            }
        });
        Self { address, names, task }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn https(target: SocketAddr, host: Option<&str>, tls: TlsCheck) -> ProbeSpec {
    let exchange = HttpProbe { host: host.map(str::to_owned), ..HttpProbe::default() };
    let timing = Timing { timeout: Duration::from_secs(20), ..Timing::default() };
    ProbeSpec { target, kind: ProbeKind::Https { exchange, tls }, timing }
}

#[tokio::test]
async fn certificates_pass_or_fail_with_their_reason() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let trusting = |authority: &Authority| TlsCheck {
        ca_file: Some(authority.file().to_owned()),
        ..TlsCheck::default()
    };
    let named = |name: &str| TlsCheck { server_name: Some(name.to_owned()), ..trusting(&ours) };
    let anybody = || TlsCheck { verify: false, ..TlsCheck::default() };
    let (now, past, future) = ((2020, 2120), (2020, 2021), (2120, 2121));
    let shop = |years| ours.identity(&["shop.example"], years);
    let address = || ours.identity(&["127.0.0.1"], now);
    let host = Some("shop.example:8443");
    for (name, identity, host, check, expected) in [
        ("the host's", shop(now), host, trusting(&ours), None),
        ("the address's", address(), None, trusting(&ours), None),
        ("a name of its own", shop(now), None, named("shop.example"), None),
        ("expired", shop(past), host, trusting(&ours), Some("expired on 2021-01-01T00:00:00Z")),
        (
            "of the future",
            shop(future),
            host,
            trusting(&ours),
            Some("is not valid before 2120-01-01T00:00:00Z"),
        ),
        (
            "another's",
            shop(now),
            Some("bank.example"),
            trusting(&ours),
            Some("the certificate is not for bank.example, but for"),
        ),
        ("not the address's", shop(now), None, trusting(&ours), Some("is not for 127.0.0.1")),
        (
            "of an authority that is not trusted",
            shop(now),
            host,
            trusting(&theirs),
            Some("is signed by no authority that is trusted"),
        ),
        // A system without authorities says so instead.
        ("the system's authorities", shop(now), host, TlsCheck::default(), Some("certificate")),
        (
            "of an impostor",
            Authority::new("ours").identity(&["shop.example"], now),
            host,
            trusting(&ours),
            Some("has a signature that is not its authority's"),
        ),
        (
            "its own",
            self_signed(&["shop.example"]),
            host,
            trusting(&ours),
            Some("may be self-signed"),
        ),
        ("its own, for anybody", self_signed(&["x.example"]), None, anybody(), None),
        ("expired, for anybody", shop(past), host, anybody(), None),
    ] {
        let server = TlsServer::start(identity, answer("200 OK", "fine")).await;
        match (attempt(&https(server.address, host, check)).await, expected) {
            (Ok(_), None) => {}
            (Err(ProbeFailure::Tls(failure)), Some(text)) if failure.to_string().contains(text) => {
            }
            (result, _) => panic!("{name}: {result:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_answer_is_judged_as_without_tls_and_the_name_is_asked_for() {
    let authority = Authority::new("ours");
    let identity = authority.identity(&["shop.example"], (2020, 2120));
    let server = TlsServer::start(identity, answer("503 Busy", "")).await;
    let check = TlsCheck { ca_file: Some(authority.file().to_owned()), ..TlsCheck::default() };
    let failure =
        attempt(&https(server.address, Some("shop.example"), check)).await.unwrap_err().to_string();
    assert_eq!(failure, "answered 503 Service Unavailable, expected 200-399");
    assert_eq!(*server.names.lock().await, [Some("shop.example".to_owned())]);
}

/// A session that was taken up again would not show the certificate, and hide that it expired.
#[tokio::test]
async fn every_attempt_sees_the_certificate() {
    let authority = Authority::new("ours");
    let check = TlsCheck { ca_file: Some(authority.file().to_owned()), ..TlsCheck::default() };
    let client = trust::client(&check, "http/1.1").await.unwrap();
    let shown = format!("{:?}", client.resumption);
    assert!(shown.contains("NoClientSessionStorage"), "{shown}");
}

#[tokio::test]
async fn what_is_no_tls_is_called_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let check = TlsCheck { verify: false, ..TlsCheck::default() };
    let failure = attempt(&https(address, None, check)).await.unwrap_err().to_string();
    assert_eq!(failure, "TLS handshake failed: the answer is not TLS");
    server.abort();
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let server = TlsServer::start(self_signed(&["a.example"]), answer("200 OK", "")).await;
    for (file, expected) in [
        ("/nowhere/ca.pem", "ca_file /nowhere/ca.pem cannot be read: No such file"),
        (empty.path().to_str().unwrap(), "holds no certificate"),
    ] {
        let check = TlsCheck { ca_file: Some(file.into()), ..TlsCheck::default() };
        let failure = attempt(&https(server.address, None, check)).await.unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_is_a_failure_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = TlsCheck { verify: false, ..TlsCheck::default() };
    let mut spec = https(listener.local_addr().unwrap(), None, check);
    spec.timing.timeout = Duration::from_millis(100);
    let failure = attempt(&spec).await.unwrap_err().to_string();
    assert_eq!(failure, "timed out after 100ms during the TLS handshake");
}
