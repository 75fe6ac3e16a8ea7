//! The `evenkeel` command. Exit codes are decided here: 0 done, 1 failed, 2 usage or invalid
//! configuration, 3 no daemon answers, 4 verification failed.

use std::process::ExitCode;

use clap::Parser as _;
use evenkeel::{
    api::{ClientError, Problem},
    cli::{Cli, Usage},
    config::Invalid,
    verify::Failed,
};

pub(crate) fn main() -> ExitCode {
    // clap itself exits with 2 where the usage is wrong.
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            report(&error);
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Invalid>() || error.is::<Usage>() {
        return 2;
    }
    if error.is::<Failed>() {
        return 4;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::NoDaemon { .. }) => 3,
        Some(ClientError::Problem(Problem { status: 412, .. })) => 4,
        Some(ClientError::Problem(Problem { status: 400 | 404 | 409 | 415 | 422, .. })) => 2,
        _ => 1,
    }
}

fn report(error: &anyhow::Error) {
    // A list of diagnostics is a line each, complete as it stands.
    if error.is::<Invalid>() {
        eprintln!("{error}");
    } else {
        eprintln!("evenkeel: {error:#}");
    }
}

/// Whoever read our output has had enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
