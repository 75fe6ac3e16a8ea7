//! One datagram, and its answer.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::UdpSocket;

use super::{super::UdpProbe, Deadline, ProbeFailure, Stage, contains, said};

/// The largest datagram there is.
const LARGEST: usize = 65_535;

/// Why an exchange of datagrams failed.
#[derive(Debug, thiserror::Error)]
pub enum UdpFailure {
    /// An ICMP error said that the port is closed.
    #[error("nothing listens on that UDP port")]
    Closed,
    /// The datagram could not be sent, or another ICMP error came back.
    #[error("cannot reach the UDP port: {0}")]
    Unreachable(#[source] io::Error),
    /// The answer does not contain what was expected.
    #[error("answered {got}, without the expected {expected}")]
    Answer {
        /// What came back, in short.
        got: String,
        /// What was looked for.
        expected: String,
    },
}

/// Sends the datagram and judges the first answer.
pub(super) async fn exchange(
    target: SocketAddr,
    probe: &UdpProbe,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let own: SocketAddr = if target.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let answer = deadline.limit(Stage::AwaitingAnswer, async {
        // Connected, so that the kernel hands on ICMP errors and takes nobody else's datagrams.
        let socket = UdpSocket::bind(own).await?;
        socket.connect(target).await?;
        socket.send(&probe.send).await?;
        let mut answer = vec![0; LARGEST];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok(answer)
    });
    let answer = answer.await?.map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => UdpFailure::Closed,
        _ => UdpFailure::Unreachable(error),
    })?;
    match &probe.expect {
        Some(expected) if !contains(&answer, expected) => {
            Err(UdpFailure::Answer { got: said(&answer), expected: said(expected) }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
