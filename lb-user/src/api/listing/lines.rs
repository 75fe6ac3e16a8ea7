//! Lines of JSON on their way from a walk's thread to the reader of an answer.

use std::ops::ControlFlow;

use hyper::body::Bytes;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::Line;

/// Bytes that are handed on together.
const PIECE: usize = 16 << 10;

/// Where a walk writes to.
pub(super) struct Lines {
    piece: Vec<u8>,
    out: mpsc::Sender<Bytes>,
    runtime: Handle,
    stopped: watch::Receiver<bool>,
}

impl Lines {
    /// To the reader at the other end of `out`, until the daemon is `stopped`.
    pub(super) fn new(
        out: mpsc::Sender<Bytes>,
        runtime: Handle,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self { piece: Vec::with_capacity(PIECE + 1024), out, runtime, stopped }
    }

    /// Breaks off where nobody reads any more.
    pub(super) fn wanted(&self) -> ControlFlow<()> {
        if self.out.is_closed() || *self.stopped.borrow() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Writes a line; waits where the reader is behind. Breaks off where nobody reads any more.
    pub(super) fn push(&mut self, line: &Line) -> ControlFlow<()> {
        self.write(line);
        if self.piece.len() < PIECE { ControlFlow::Continue(()) } else { self.hand_on() }
    }

    /// Writes the last line.
    pub(super) fn finish(&mut self, line: &Line) {
        self.write(line);
        let _ = self.hand_on();
    }

    fn write(&mut self, line: &Line) {
        // Plain data into memory: nothing of it can fail.
        if serde_json::to_writer(&mut self.piece, line).is_ok() {
            self.piece.push(b'\n');
        }
    }

    fn hand_on(&mut self) -> ControlFlow<()> {
        let piece = Bytes::copy_from_slice(&self.piece);
        self.piece.clear();
        let (out, stopped) = (&self.out, &mut self.stopped);
        let sent = self.runtime.block_on(async {
            tokio::select! {
                sent = out.send(piece) => sent.is_ok(),
                _ = stopped.wait_for(|stopped| *stopped) => false,
            }
        });
        if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
