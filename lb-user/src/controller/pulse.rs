//! How long the controller takes for each event. Pure: times are passed in.

use std::time::Duration;

use crate::api::model::{LoopBucket, LoopTimes};

/// The ends of the buckets, in microseconds.
const ENDS: [u64; 8] = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000];

/// The times that events took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    microseconds: u64,
    counts: [u64; ENDS.len() + 1],
}

impl Pulse {
    /// Notes an event that took this long.
    pub fn note(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds = self.microseconds.saturating_add(took);
        self.counts[ENDS.partition_point(|end| *end <= took)] += 1;
    }

    /// What there is to tell.
    #[must_use]
    pub fn times(&self) -> LoopTimes {
        let ends = ENDS.iter().map(|end| Some(*end)).chain([None]);
        let bucket = |(below_microseconds, count): (_, &u64)| LoopBucket {
            below_microseconds,
            count: *count,
        };
        LoopTimes {
            microseconds: self.microseconds,
            buckets: ends.zip(&self.counts).map(bucket).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_their_time() {
        let mut pulse = Pulse::default();
        for microseconds in [0, 999, 1_000, 60_000, 9_000_000] {
            pulse.note(Duration::from_micros(microseconds));
        }
        let times = pulse.times();
        let counts: Vec<_> = times.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(times.microseconds, 9_061_999);
        assert_eq!(times.buckets.last().unwrap().below_microseconds, None);
    }
}
