//! Datagrams to sockets on the loopback.

use std::time::Duration;

use super::*;
use crate::health::{ProbeKind, ProbeSpec, Timing, attempt};

fn udp(target: SocketAddr, expect: Option<&str>, timeout: u64) -> ProbeSpec {
    let expect = expect.map(|text| text.as_bytes().to_vec());
    let kind = ProbeKind::Udp(UdpProbe { send: b"ping\0".to_vec(), expect });
    let timing = Timing { timeout: Duration::from_millis(timeout), ..Timing::default() };
    ProbeSpec { target, kind, timing }
}

/// Answers each datagram with `answer`, if there is one, and what came.
async fn server(address: &str, answer: Option<&'static str>) -> SocketAddr {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2_000];
        while let Ok((length, source)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = answer {
                let answer = [answer.as_bytes(), &buffer[..length]].concat();
                socket.send_to(&answer, source).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn an_answer_passes_that_contains_what_is_expected() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let target = server(address, Some("pong to ")).await;
        attempt(&udp(target, None, 20_000)).await.unwrap();
        attempt(&udp(target, Some("pong to ping\0"), 20_000)).await.unwrap();
        let failure = attempt(&udp(target, Some("tick"), 20_000)).await.unwrap_err().to_string();
        assert_eq!(failure, r#"answered "pong to ping\0", without the expected "tick""#);
    }
}

#[tokio::test]
async fn a_closed_port_is_told_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = socket.local_addr().unwrap();
    drop(socket);
    // Not by the deadline, which is far away.
    let failure = attempt(&udp(target, None, 3_600_000)).await.unwrap_err();
    assert!(matches!(failure, ProbeFailure::Udp(UdpFailure::Closed)), "{failure}");
}

#[tokio::test]
async fn silence_is_a_failure_in_time() {
    let target = server("127.0.0.1:0", None).await;
    let failure = attempt(&udp(target, None, 100)).await.unwrap_err().to_string();
    assert_eq!(failure, "timed out after 100ms while waiting for the answer");
}
