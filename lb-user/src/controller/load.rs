//! The load of every backend, measured: new connections a second, over the last minute. Pure: counts
//! and the time are passed in.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::plan::BackendId;

/// Over how long it is measured.
const WINDOW: Duration = Duration::from_mins(1);
/// Time between two samples at the least.
const BETWEEN: Duration = Duration::from_secs(1);

/// Connections that each backend was given, as they were counted from time to time.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Instant, HashMap<BackendId, u64>)>,
}

impl Meter {
    /// Notes connections opened since the backends were added.
    pub fn observe(&mut self, now: Instant, opened: HashMap<BackendId, u64>) {
        if self.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < BETWEEN) {
            return;
        }
        self.samples.push_back((now, opened));
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// New connections of a backend, a second; `None` while too little is known.
    #[must_use]
    pub fn rate(&self, id: BackendId) -> Option<f64> {
        let (until, last) = self.samples.back()?;
        let (since, first) = self.samples.iter().find(|(_, opened)| opened.contains_key(&id))?;
        let seconds = until.duration_since(*since).as_secs_f64();
        let opened = last.get(&id)?.saturating_sub(*first.get(&id)?);
        #[expect(clippy::cast_precision_loss, reason = "shown in a few digits")]
        (seconds > 0.0).then(|| opened as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let (old, new) = (BackendId(1), BackendId(2));
        assert_eq!(meter.rate(old), None);
        for second in 0..=200_u64 {
            let mut opened = HashMap::from([(old, second.min(100) * 10)]);
            if second >= 190 {
                opened.insert(new, (second - 190) * 3);
            }
            meter.observe(start + Duration::from_secs(second), opened.clone());
            // More often than it is worth.
            meter.observe(start + Duration::from_millis(second * 1000 + 1), opened);
            match second {
                0 => assert_eq!(meter.rate(old), None, "one sample is no rate"),
                100 => assert_eq!(meter.rate(old), Some(10.0)),
                130 => assert_eq!(meter.rate(old), Some(5.0)),
                200 => assert_eq!((meter.rate(old), meter.rate(new)), (Some(0.0), Some(3.0))),
                _ => {}
            }
        }
    }
}
