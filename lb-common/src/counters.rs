//! Per-backend counters, one copy a CPU. Only the program writes them; the controller adds them up.

use bytemuck::{Pod, Zeroable};

/// Counters of one backend on one CPU. Bytes are those of the IP packets, link headers not
/// counted, as in IPVS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BackendCounters {
    /// Packets towards the backend.
    pub packets_in: u64,
    /// Bytes towards the backend.
    pub bytes_in: u64,
    /// Packets towards the clients.
    pub packets_out: u64,
    /// Bytes towards the clients.
    pub bytes_out: u64,
    /// Connections given to the backend.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
}

impl BackendCounters {
    /// Adds another CPU's copy.
    pub fn add(&mut self, other: &Self) {
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.opened += other.opened;
        self.closed += other.closed;
    }

    /// Connections open now. A connection may close on another CPU than it opened on, so only the
    /// sum over all CPUs means something.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}
