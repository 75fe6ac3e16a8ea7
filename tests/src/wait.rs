//! Waiting for a condition with a deadline. Tests poll; a fixed sleep is never a check.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Long enough for a busy machine with two cores; a healthy run waits for a fraction of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `attempt` until it succeeds. After `limit` the last error is returned, together with
/// `what` was awaited.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error)
                    .with_context(|| format!("waited {limit:?} in vain until {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
