//! The program attached to nothing, and frames run through it one at a time.

use aya::programs::{TestRun as _, TestRunOptions};
use evenkeel::decap::Decapsulator;
use evenkeel_tests::frame::describe;

use crate::tunnel::{GUE_PORT, OURS};

/// XDP's action codes (include/uapi/linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// A loaded decapsulator.
pub struct Harness {
    decapsulator: Decapsulator,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The counter that moved.
    pub counter: &'static str,
    /// The frame as the program left it.
    pub bytes: Vec<u8>,
}

impl Harness {
    /// For the usual addresses and edges.
    pub fn new() -> Self {
        Self::with(&["198.18.0.0/16", "100::/64"], GUE_PORT)
    }

    pub fn with(edges: &[&str], gue_port: u16) -> Self {
        let edges = edges.iter().map(|edge| edge.parse().unwrap()).collect();
        let decapsulator = Decapsulator::load(&OURS.into(), &edges, gue_port).unwrap();
        Self { decapsulator }
    }

    /// Runs a frame, and checks what holds for all: one counter moves by one, the action is what
    /// its name says, and a frame that is not unwrapped keeps its bytes.
    pub fn run(&self, frame: &[u8]) -> Ran {
        let before = self.decapsulator.packets().unwrap();
        let mut bytes = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ..TestRunOptions::new()
        };
        let result = self.decapsulator.program().unwrap().test_run(options).unwrap();
        bytes.truncate(result.data_size_out.try_into().unwrap());
        let after = self.decapsulator.packets().unwrap();
        let moved: Vec<_> = before
            .iter()
            .zip(after)
            .filter(|(before, after)| before.1 != after.1)
            .map(|(before, after)| (after.0, after.1 - before.1))
            .collect();
        let [(counter, 1)] = moved[..] else {
            panic!("not one packet counted once, but {moved:?} for\n{}", describe(frame));
        };
        let expected = if counter.starts_with("drop-") { XDP_DROP } else { XDP_PASS };
        assert_eq!(result.return_value, expected, "{counter} for\n{}", describe(frame));
        if !counter.starts_with("unwrapped-") {
            assert_eq!(bytes, frame, "{counter} for\n{}", describe(frame));
        }
        Ran { counter, bytes }
    }

    /// A frame that must be unwrapped to `expected`.
    pub fn unwraps(&self, name: &str, counter: &str, frame: &[u8], expected: &[u8]) {
        let ran = self.run(frame);
        assert_eq!(ran.counter, counter, "{name}\n{}", describe(frame));
        assert!(
            ran.bytes == expected,
            "{name}\n--- got\n{}\n--- expected\n{}\n{:02x?}\n{expected:02x?}",
            describe(&ran.bytes),
            describe(expected),
            ran.bytes,
        );
    }

    /// A frame that must be counted so and not be unwrapped.
    pub fn leaves(&self, name: &str, counter: &str, frame: &[u8]) {
        assert_eq!(self.run(frame).counter, counter, "{name}\n{}", describe(frame));
    }
}
