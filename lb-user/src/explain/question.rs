//! The question to the `explain` program, run by the kernel's test-run.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::{
    connection::Flow,
    explain::{Answer, Question},
    net::{Addr4, Addr6, Address, Be16},
};

use crate::config::Protocol;

/// Asks what would become of a connection from `client` to `destination`.
///
/// # Errors
///
/// Where the two are of different families, or the kernel refuses.
pub fn ask(
    program: &Xdp,
    client: SocketAddr,
    destination: SocketAddr,
    protocol: Protocol,
) -> Result<Answer> {
    if destination.is_ipv4() {
        ask_family::<Addr4>(program, 4, client, destination, protocol)
    } else {
        ask_family::<Addr6>(program, 6, client, destination, protocol)
    }
}

fn ask_family<A: Address>(
    program: &Xdp,
    family: u32,
    client: SocketAddr,
    destination: SocketAddr,
    protocol: Protocol,
) -> Result<Answer> {
    let end = |end: SocketAddr| -> Result<(A, Be16)> {
        let address =
            A::from_ip(end.ip()).context("client and service are of different families")?;
        Ok((address, Be16::new(end.port())))
    };
    let flow = Flow::new(end(client)?, end(destination)?, protocol.number());
    let question = Question { flow, answer: Answer::default() };
    let request = [bytemuck::bytes_of(&family), bytemuck::bytes_of(&question)].concat();
    let mut answered = vec![0; request.len()];
    let options = TestRunOptions {
        data_in: Some(&request),
        data_out: Some(&mut answered),
        ..TestRunOptions::new()
    };
    let ran = program.test_run(options).context("run the explain program")?;
    ensure!(ran.return_value != 0, "the explain program did not understand the question");
    let question: Question<A> = bytemuck::pod_read_unaligned(&answered[size_of::<u32>()..]);
    Ok(question.answer)
}
