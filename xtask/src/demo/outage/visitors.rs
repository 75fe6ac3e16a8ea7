//! The visitors of the shop: so many at once, each asking for a page, and again when it has it. What
//! became of every request is counted.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Error, Result};
use evenkeel_tests::{
    http::{self, Response},
    netns::Namespace,
    topology::Family,
};

/// How long one rests who got no page, as people do who press "reload".
const REST: Duration = Duration::from_millis(100);

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pages that they got.
    pub(super) pages: u64,
    /// Answers with 500.
    pub(super) errors: u64,
    /// Told at once that there is no room.
    pub(super) turned_away: u64,
    /// Anything else: cut off, or no answer.
    pub(super) lost: u64,
    /// Answers with 500 since the last page.
    pub(super) errors_in_a_row: u64,
    /// The last of what is counted as `lost`.
    pub(super) last_loss: String,
}

impl Tally {
    /// All requests.
    pub(super) fn requests(&self) -> u64 {
        self.pages + self.failed()
    }

    /// Those that brought no page.
    pub(super) fn failed(&self) -> u64 {
        self.errors + self.turned_away + self.lost
    }

    /// What came after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            pages: self.pages - earlier.pages,
            errors: self.errors - earlier.errors,
            turned_away: self.turned_away - earlier.turned_away,
            lost: self.lost - earlier.lost,
            ..self.clone()
        }
    }

    fn count(&mut self, outcome: Result<Response>) {
        match outcome {
            Ok(answer) if answer.status == 200 => {
                self.pages += 1;
                self.errors_in_a_row = 0;
            }
            Ok(answer) if answer.status == 500 => {
                self.errors += 1;
                self.errors_in_a_row += 1;
            }
            Ok(answer) => self.lose(format!("status {}", answer.status)),
            Err(error) if is_refusal(&error) => self.turned_away += 1,
            Err(error) => self.lose(format!("{error:#}")),
        }
    }

    fn lose(&mut self, what: String) {
        self.lost += 1;
        self.last_loss = what;
    }
}

/// Visitors that go on until they are dropped.
pub(super) struct Visitors {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Visitors {
    /// Sends `count` of them to the shop's address, from inside `client`.
    pub(super) fn start(client: &Namespace, count: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let visit = |_| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            client.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = http::get(Family::V4.service(80), "/shop");
                    let got = outcome.as_ref().is_ok_and(|answer| answer.status == 200);
                    tally.lock().unwrap_or_else(PoisonError::into_inner).count(outcome);
                    if !got {
                        thread::sleep(REST);
                    }
                }
                Ok(())
            })
        };
        let threads = (0..count).map(visit).collect::<Result<_>>()?;
        Ok(Self { stop, tally, threads })
    }

    /// What became of their requests so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Visitors {
    /// Lets each finish its request, and tells what became of all of them.
    pub(super) fn leave(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.threads.drain(..) {
            let _ = visitor.join();
        }
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a RST said that there is no room: while connecting, or when the handshake was complete just as
/// the last place was taken.
fn is_refusal(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    kind.is_some_and(|cause| {
        matches!(cause.kind(), ConnectionRefused | ConnectionReset | BrokenPipe)
    })
}
