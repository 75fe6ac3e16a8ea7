//! Faults of the network under load: interfaces that go and come, neighbours and routes that change. Where
//! there was a way all the time, or soon again, no request fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail them, like the tests")]

mod clock;
mod interfaces;
mod ways;
