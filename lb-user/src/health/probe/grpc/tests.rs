//! The health service of `tonic-health`, and servers that are none.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tonic::transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::*;
use crate::health::{
    ProbeKind, ProbeSpec, Timing, TlsCheck, attempt,
    testing::{self, answer, certificates::Authority},
};

async fn server(tls: Option<ServerTlsConfig>) -> (SocketAddr, HealthReporter) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut builder = Server::builder();
    if let Some(tls) = tls {
        builder = builder.tls_config(tls).unwrap();
    }
    let served = builder.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(served);
    (address, reporter)
}

fn grpc(target: SocketAddr, service: Option<&str>, tls: Option<TlsCheck>) -> ProbeSpec {
    let host = tls.is_some().then(|| "shop.example".to_owned());
    let kind = ProbeKind::Grpc(GrpcProbe { service: service.map(str::to_owned), host, tls });
    let timing = Timing { timeout: Duration::from_secs(20), ..Timing::default() };
    ProbeSpec { target, kind, timing }
}

async fn failure(spec: ProbeSpec) -> String {
    attempt(&spec).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_service_passes_while_it_serves() {
    let (target, reporter) = server(None).await;
    attempt(&grpc(target, None, None)).await.unwrap();
    assert_eq!(
        failure(grpc(target, Some("shop.Cart"), None)).await,
        "the server knows no service \"shop.Cart\""
    );
    reporter.set_service_status("shop.Cart", ServingStatus::Serving).await;
    attempt(&grpc(target, Some("shop.Cart"), None)).await.unwrap();
    reporter.set_service_status("shop.Cart", ServingStatus::NotServing).await;
    let spec = grpc(target, Some("shop.Cart"), None);
    assert_eq!(failure(spec).await, "the service is NOT_SERVING");
    reporter.set_service_status("", ServingStatus::Unknown).await;
    assert_eq!(failure(grpc(target, None, None)).await, "the service is UNKNOWN");
}

#[tokio::test]
async fn over_tls_the_certificate_counts() {
    let authority = Authority::new("ours");
    let identity = authority.identity(&["shop.example"], (2020, 2120));
    let pem = Identity::from_pem(identity.certificate.pem(), identity.key.serialize_pem());
    let (target, _reporter) = server(Some(ServerTlsConfig::new().identity(pem))).await;
    let ca_file = Some(authority.file().to_owned());
    let trusting = TlsCheck { ca_file, ..TlsCheck::default() };
    attempt(&grpc(target, None, Some(trusting.clone()))).await.unwrap();
    let other = TlsCheck { server_name: Some("bank.example".to_owned()), ..trusting };
    let failed = failure(grpc(target, None, Some(other))).await;
    assert!(failed.contains("is not for bank.example"), "{failed}");
    let anybody = TlsCheck { verify: false, ..TlsCheck::default() };
    attempt(&grpc(target, None, Some(anybody))).await.unwrap();
}

#[tokio::test]
async fn a_server_without_the_service_is_told_apart() {
    let empty = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = empty.local_addr().unwrap();
    let routes = tonic::service::Routes::default();
    tokio::spawn(
        Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(empty)),
    );
    let failed = failure(grpc(target, None, None)).await;
    assert!(failed.contains("status 12 (it has no health service)"), "{failed}");
    let plain = testing::Server::start(answer("200 OK", "hello")).await;
    let failed = failure(grpc(plain.address, None, None)).await;
    assert!(failed.contains("HTTP exchange failed"), "{failed}");
}

#[test]
fn answers_that_are_no_answer_are_told_apart() {
    for (body, expected) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], ""),
        (&[0, 0, 0, 0, 2, 8, 2], "the service is NOT_SERVING"),
        (&[0, 0, 0, 0, 0], "the service is UNKNOWN"),
        (&[0, 0, 0, 0, 2, 8, 9], "unknown status 9"),
        (&[0, 0, 0], "cut short"),
        (&[1, 0, 0, 0, 2, 8, 1], "compressed"),
        (&[0, 0, 0, 0, 3, 8, 1], "length"),
        (&[0, 0, 0, 0, 1, 8], "no health message"),
    ] {
        let found = serving(body).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }
}

#[test]
fn the_request_is_framed() {
    let framed = frame(&HealthCheckRequest { service: "a.B".to_owned() });
    assert_eq!(framed[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
}
