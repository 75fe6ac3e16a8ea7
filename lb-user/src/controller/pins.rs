//! The look at the pins, every few seconds: what is gone is put back, and told.

use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::error;

use super::Controller;
use crate::{
    events::{Kind, Note},
    loader::{Grip, Pinned},
};

/// Time between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The grip on the pins, and what is with them.
pub struct Keeper {
    grip: Grip,
    next: Instant,
    lost: Option<String>,
}

impl Keeper {
    /// Nothing is lost yet.
    pub fn new(grip: Grip) -> Self {
        Self { grip, next: Instant::now() + BETWEEN_LOOKS, lost: None }
    }

    /// What is lost, and the way out; `None`: nothing is.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

impl Controller {
    /// Holds what is pinned now, and nothing of what was before: another data path took its place.
    ///
    /// # Errors
    ///
    /// Where a pin cannot be opened.
    pub fn hold_pins_anew(&mut self) -> Result<()> {
        self.pins.grip.renew()
    }

    /// Says at the end what ends with the daemon.
    pub(super) fn say_goodbye(&self) {
        if self.pins.lost().is_some() {
            error!("the data path is not pinned, and ends with this daemon");
        }
    }

    /// Looks at the pins when it is time to.
    pub(super) fn check_pins(&mut self, now: Instant) {
        if now < self.pins.next {
            return;
        }
        self.pins.next = now + BETWEEN_LOOKS;
        match self.pins.grip.check() {
            Pinned::Whole => self.pins.lost = None,
            Pinned::Mended(what) => {
                let message = format!("{what}; they are there again");
                self.events.tell(Note::new(Kind::Drift, message).because(&what).warning());
                self.audit.note(self.clock.now(), what);
                self.pins.lost = None;
            }
            Pinned::Lost(what) => {
                if self.pins.lost.as_ref() != Some(&what) {
                    self.events.tell(Note::new(Kind::Trouble, &what).error());
                }
                self.pins.lost = Some(what);
            }
        }
    }
}
