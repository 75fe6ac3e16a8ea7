//! When an address is announced: what a look saw, and hysteresis. Pure; the time is passed in.

use std::time::{Duration, Instant};

/// How long a state must last before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// All well, before the address is announced.
    pub announce_after: Duration,
    /// Something wrong, before it is withdrawn.
    pub withdraw_after: Duration,
}

/// What a look saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Traffic may come.
    Well,
    /// It should not.
    Unwell,
    /// People do not want it here: that needs no second look.
    Unwanted,
}

/// Whether an address is announced, and since when what was seen says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    announced: bool,
    otherwise_since: Option<Instant>,
}

impl Gate {
    /// A gate that begins so: announced where a daemon before this one left it so.
    #[must_use]
    pub const fn new(announced: bool) -> Self {
        Self { announced, otherwise_since: None }
    }

    /// Whether it is announced.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        self.announced
    }

    /// How long it is yet until it is announced, if all stays well; `None` where it is, or is not well.
    #[must_use]
    pub fn waits(&self, timing: Timing, now: Instant) -> Option<Duration> {
        let since = self.otherwise_since.filter(|_| !self.announced)?;
        Some(timing.announce_after.saturating_sub(now.saturating_duration_since(since)))
    }

    /// When it turns, if what was seen last stays so.
    #[must_use]
    pub fn due(&self, timing: Timing) -> Option<Instant> {
        let wait = if self.announced { timing.withdraw_after } else { timing.announce_after };
        self.otherwise_since.map(|since| since + wait)
    }

    /// Takes up what a look saw; tells whether that turned it.
    pub fn note(&mut self, fitness: Fitness, timing: Timing, now: Instant) -> bool {
        let wanted = fitness == Fitness::Well;
        if wanted == self.announced {
            self.otherwise_since = None;
            return false;
        }
        let since = *self.otherwise_since.get_or_insert(now);
        let wait = match fitness {
            Fitness::Well => timing.announce_after,
            Fitness::Unwell => timing.withdraw_after,
            Fitness::Unwanted => Duration::ZERO,
        };
        if now.saturating_duration_since(since) < wait {
            return false;
        }
        *self = Self::new(wanted);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing =
        Timing { announce_after: Duration::from_secs(10), withdraw_after: Duration::from_secs(2) };

    #[test]
    fn a_drain_does_not_wait_and_a_return_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gate = Gate::new(true);
        assert!(gate.note(Fitness::Unwanted, TIMING, at(0)));
        assert_eq!(gate.waits(TIMING, at(0)), None);
        assert!(!gate.note(Fitness::Well, TIMING, at(1)));
        assert_eq!(gate.waits(TIMING, at(4)), Some(Duration::from_secs(7)));
        assert_eq!(gate.due(TIMING), Some(at(11)));
        // One bad look, and the time runs anew.
        assert!(!gate.note(Fitness::Unwell, TIMING, at(9)));
        assert!(!gate.note(Fitness::Well, TIMING, at(10)));
        assert!(!gate.note(Fitness::Well, TIMING, at(19)));
        assert!(gate.note(Fitness::Well, TIMING, at(20)) && gate.is_announced());
        assert_eq!(gate.due(TIMING), None);
        assert!(!gate.note(Fitness::Unwell, TIMING, at(21)));
        assert!(gate.note(Fitness::Unwell, TIMING, at(23)) && !gate.is_announced());
    }

    fn fitness() -> impl Strategy<Value = Fitness> {
        prop_oneof![Just(Fitness::Well), Just(Fitness::Unwell), Just(Fitness::Unwanted)]
    }

    proptest! {
        /// Against its definition, over the whole history.
        #[test]
        fn it_turns_when_the_history_says_so_and_never_else(
            looks in prop::collection::vec((fitness(), 0_u64..4_000), 1..80),
            begins in any::<bool>(),
            (announce_after, withdraw_after) in (0_u64..6_000, 0_u64..6_000),
        ) {
            let timing = Timing {
                announce_after: Duration::from_millis(announce_after),
                withdraw_after: Duration::from_millis(withdraw_after),
            };
            let (mut now, mut gate) = (Instant::now(), Gate::new(begins));
            let mut history: Vec<(Instant, Fitness)> = Vec::new();
            for (fitness, pause) in looks {
                now += Duration::from_millis(pause);
                history.push((now, fitness));
                let before = gate.is_announced();
                // For how long all looks, since it turned last, said otherwise than it is.
                let against = |(_, seen): &&(Instant, Fitness)| (*seen == Fitness::Well) != before;
                let first = history.iter().rev().take_while(against).last();
                let lasted = first.map(|(at, _)| now.duration_since(*at));
                let wait = if before { timing.withdraw_after } else { timing.announce_after };
                let turns = fitness == Fitness::Unwanted && before
                    || lasted.is_some_and(|lasted| lasted >= wait);
                prop_assert_eq!(gate.note(fitness, timing, now), turns);
                prop_assert_eq!(gate.is_announced(), before != turns);
                if turns {
                    history.clear();
                }
            }
        }
    }
}
