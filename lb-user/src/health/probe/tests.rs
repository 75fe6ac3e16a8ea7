//! Attempts against real listeners on the loopback.

use std::{net::SocketAddr, time::Duration};

use hyper::Method;

use super::*;
use crate::health::{
    StatusSet,
    testing::{Script, Server, answer, refused},
};

fn tcp(target: SocketAddr) -> ProbeSpec {
    let timing = Timing {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(300),
        rise: 1,
        fall: 1,
        flap_damping: None,
    };
    ProbeSpec { target, kind: ProbeKind::Tcp, timing }
}

fn http(target: SocketAddr, expect_body: Option<&str>) -> ProbeSpec {
    let probe = HttpProbe {
        method: Method::GET,
        path: "/healthz?deep=1".to_owned(),
        host: None,
        expect_status: StatusSet::new([200..=299]),
        expect_body: expect_body.map(str::to_owned),
    };
    ProbeSpec { kind: ProbeKind::Http(probe), ..tcp(target) }
}

#[tokio::test]
async fn answers_pass_or_fail_with_their_reason() {
    let drip = |length: usize, body: &str| Script::Drip {
        head: format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"),
        body: body.to_owned(),
    };
    let late_text = format!("{}needle", "x".repeat(BODY_LIMIT));
    let edge_text = format!("{}needle", "x".repeat(BODY_LIMIT - 6));
    for (name, script, body, expected) in [
        ("ok", answer("200 OK", "fine"), None, None),
        ("no length", Script::Say("HTTP/1.1 200 OK\r\n\r\nfine".into()), Some("fine"), None),
        (
            "chunked",
            Script::Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n".into()),
            Some("fine"),
            None,
        ),
        ("never answers", Script::Silence, None, Some("timed out after 300ms while waiting for the response")),
        ("hangs up", Script::HangUp, None, Some("HTTP exchange failed")),
        ("not HTTP", Script::Say("220 mail ready\r\n".into()), None, Some("HTTP exchange failed")),
        ("wrong status", answer("503 Busy", ""), None, Some("answered 503 Service Unavailable, expected 200-299")),
        ("redirect is not followed", answer("302 Found", ""), None, Some("answered 302 Found")),
        ("body matches", answer("200 OK", "all is fine here"), Some("fine"), None),
        ("body differs", answer("200 OK", "broken"), Some("fine"), Some("first 6 bytes do not contain \"fine\"")),
        ("slow body not asked for", drip(1000, "fine"), None, None),
        ("slow body found in time", drip(1000, "fine and more to come"), Some("fine"), None),
        ("slow body too slow", drip(1000, &"x".repeat(1000)), Some("fine"), Some("timed out after 300ms while reading the body")),
        ("body cut short", drip(1000, "abc"), Some("fine"), Some("HTTP exchange failed")),
        ("text ends at the limit", answer("200 OK", &edge_text), Some("needle"), None),
        ("text past the limit", answer("200 OK", &late_text), Some("needle"), Some("first 65536 bytes")),
    ] {
        let server = Server::start(script).await;
        match (attempt(&http(server.address, body)).await, expected) {
            (Ok(_), None) => {}
            (Err(failure), Some(text)) if failure.to_string().contains(text) => {}
            (result, _) => panic!("{name}: {result:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_request_is_the_one_described() {
    let server = Server::start(answer("200 OK", "")).await;
    attempt(&http(server.address, None)).await.unwrap();
    let mut named = http(server.address, None);
    if let ProbeKind::Http(probe) = &mut named.kind {
        probe.host = Some("shop.example".to_owned());
        probe.method = Method::HEAD;
    }
    attempt(&named).await.unwrap();

    let requests = server.requests().await;
    let agent = format!("user-agent: evenkeel/{}", env!("CARGO_PKG_VERSION"));
    assert!(requests[0].starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{}", requests[0]);
    for header in [&format!("host: {}", server.address), &agent, "connection: close"] {
        assert!(requests[0].contains(&format!("{header}\r\n")), "{header} in {}", requests[0]);
    }
    assert!(requests[1].starts_with("HEAD /healthz?deep=1 HTTP/1.1\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("host: shop.example\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn tcp_needs_only_the_handshake() {
    let server = Server::start(Script::Silence).await;
    assert!(attempt(&tcp(server.address)).await.unwrap() < Duration::from_millis(300));
    let v6 = Server::start_at("[::1]:0", Script::Silence).await;
    attempt(&tcp(v6.address)).await.unwrap();
}

#[tokio::test]
async fn refused_is_told_at_once() {
    let target = refused().await;
    for spec in [tcp(target), http(target, None)] {
        let failure = attempt(&spec).await.unwrap_err();
        assert!(matches!(&failure, ProbeFailure::Connect(_)), "{failure:?}");
        assert!(failure.to_string().contains("refused"), "{failure}");
    }
}

#[tokio::test]
async fn a_path_that_is_no_path_fails_without_a_panic() {
    let server = Server::start(Script::Silence).await;
    let mut spec = http(server.address, None);
    if let ProbeKind::Http(probe) = &mut spec.kind {
        probe.path = "not a path".to_owned();
    }
    assert!(matches!(attempt(&spec).await, Err(ProbeFailure::Request(_))));
}
