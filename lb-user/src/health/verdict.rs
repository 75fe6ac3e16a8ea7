//! The verdict on a backend: a state machine over passes and failures.
//!
//! Pure: no clock, no sockets. Only consecutive results count, so a backend that answers every
//! other time changes nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the probes say about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Too few attempts to tell.
    #[default]
    Unknown,
    /// It passed `rise` times in a row.
    Up,
    /// It failed `fall` times in a row.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// Counts consecutive results and turns them into a [`Health`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    health: Health,
    rise: u32,
    fall: u32,
    passes: u32,
    failures: u32,
}

impl Verdict {
    /// A verdict that starts from `health`. A threshold of zero counts as one.
    #[must_use]
    pub fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self { health, rise: rise.max(1), fall: fall.max(1), passes: 0, failures: 0 }
    }

    /// Takes one result in; answers the health before and after when they differ.
    pub fn record(&mut self, passed: bool) -> Option<(Health, Health)> {
        let verdict = if passed {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
            (self.passes >= self.rise).then_some(Health::Up)
        } else {
            self.passes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.fall).then_some(Health::Down)
        };
        let before = self.health;
        self.health = verdict.unwrap_or(before);
        (self.health != before).then_some((before, self.health))
    }

    /// The health as of the last result.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// How many passes the last results were in a row; zero after a failure.
    #[must_use]
    pub fn consecutive_passes(&self) -> u32 {
        self.passes
    }

    /// How many failures the last results were in a row; zero after a pass.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The health after each result; `+` is a pass and `-` a failure.
    fn run(start: Health, rise: u32, fall: u32, results: &str) -> String {
        let mut verdict = Verdict::new(start, rise, fall);
        results
            .chars()
            .map(|result| {
                verdict.record(result == '+');
                match verdict.health() {
                    Health::Unknown => '?',
                    Health::Up => 'U',
                    Health::Down => 'D',
                }
            })
            .collect()
    }

    #[test]
    fn thresholds_count_consecutive_results() {
        for (name, start, rise, fall, results, expected) in [
            ("rises", Health::Unknown, 2, 3, "++", "?U"),
            ("falls from unknown", Health::Unknown, 2, 3, "---", "??D"),
            ("mixed stays unknown", Health::Unknown, 2, 2, "+-+-", "????"),
            ("a pass breaks the failures", Health::Up, 1, 3, "--+--", "UUUUU"),
            ("a failure breaks the passes", Health::Down, 3, 1, "++-++", "DDDDD"),
            ("falls and returns", Health::Up, 2, 3, "---++", "UUDDU"),
            ("one of each", Health::Unknown, 1, 1, "+-+", "UDU"),
            ("zero counts as one", Health::Unknown, 0, 0, "+-", "UD"),
            ("kept while it passes", Health::Up, 5, 1, "+++", "UUU"),
        ] {
            assert_eq!(run(start, rise, fall, results), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn health_is_what_the_last_full_streak_said(
            rise in 1u32..6, fall in 1u32..6, results in prop::collection::vec(any::<bool>(), 0..64),
        ) {
            let mut verdict = Verdict::new(Health::Unknown, rise, fall);
            for end in 1..=results.len() {
                let before = verdict.health();
                let change = verdict.record(results[end - 1]);

                // The definition, recomputed from the whole history.
                let mut expected = Health::Unknown;
                for upto in 1..=end {
                    let last = results[upto - 1];
                    let streak = results[..upto].iter().rev().take_while(|r| **r == last).count();
                    let needed = if last { rise } else { fall } as usize;
                    if streak >= needed {
                        expected = if last { Health::Up } else { Health::Down };
                    }
                }
                prop_assert_eq!(verdict.health(), expected);
                prop_assert_eq!(change, (before != expected).then_some((before, expected)));
                prop_assert!(verdict.consecutive_passes() == 0 || verdict.consecutive_failures() == 0);
            }
        }
    }
}
