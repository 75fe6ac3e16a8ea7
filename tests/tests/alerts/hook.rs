//! A little web server that alerts are posted to, and what it was told.

use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::netns::Namespace;
use serde_json::Value;

/// A target that failed for a while is tried again after half a minute, and may fail twice more.
const LONGEST: Duration = Duration::from_mins(3);

/// Headers and bodies of the requests that were taken, in order.
pub type Received = mpsc::Receiver<(String, Value)>;

/// What a little web server does with a request.
#[derive(Clone, Copy)]
pub enum Answer {
    Fail,
    Hang,
    Take,
}

/// Serves on this port of the namespace's loopback; the answers in turn, and the last one for ever. Sends
/// the bodies that it took, with their headers.
pub fn serve(inside: &Namespace, port: u16, answers: &'static [Answer]) -> Received {
    let listener = inside.run(|| Ok(TcpListener::bind(("127.0.0.1", port))?)).unwrap();
    let (taken, received) = mpsc::channel();
    thread::spawn(move || {
        let mut hanging = Vec::new();
        let mut answers = answers.iter().copied();
        let mut answer = Answer::Take;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            answer = answers.next().unwrap_or(answer);
            let Ok((head, body)) = request(&mut BufReader::new(&stream)) else { continue };
            let status = match answer {
                Answer::Hang => {
                    hanging.push(stream);
                    continue;
                }
                Answer::Fail => "500 Internal Server Error",
                Answer::Take => "204 No Content",
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if matches!(answer, Answer::Take) && taken.send((head, body)).is_err() {
                return;
            }
        }
    });
    received
}

fn request(reader: &mut impl std::io::BufRead) -> Result<(String, Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the request ends too early");
    }
    let length = head.to_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("no length")?.trim().parse()?];
    reader.read_exact(&mut body)?;
    Ok((head, serde_json::from_slice(&body)?))
}

/// Waits for a document in which the alert has this status.
pub fn told(received: &Received, id: &str, status: &str) -> (String, Value) {
    let deadline = Instant::now() + LONGEST;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (head, document) = received.recv_timeout(left).unwrap();
        let alerts = document["alerts"].as_array().unwrap();
        let found = alerts.iter().find(|alert| alert["id"] == id && alert["status"] == status);
        if let Some(alert) = found {
            return (head, alert.clone());
        }
    }
}
