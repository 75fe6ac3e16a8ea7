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
    /// Connections that the backend reset, established ones.
    pub reset: u64,
    /// Connections that it refused: its first answer was a RST.
    pub refused: u64,
    /// Connections that it had not answered when the client sent its SYN again.
    pub unanswered: u64,
    /// Refused and unanswered connections that another backend was given.
    pub redispatched: u64,
    /// Unconfirmed connections that made room for newer ones.
    pub evicted: u64,
    /// Microseconds from SYN to SYN-ACK, added up over the handshakes counted below.
    pub handshake_microseconds: u64,
    /// Times from SYN to SYN-ACK: see [`handshake_bucket`].
    pub handshakes: [u64; HANDSHAKE_BUCKETS],
}

/// Buckets of the handshake histogram.
pub const HANDSHAKE_BUCKETS: usize = 16;

/// The bucket of a time in microseconds. Bucket 0 takes up to 63 µs, each one after it twice the
/// time of the one before, the last one all that is left: from 1.05 s.
#[inline(always)]
#[must_use]
pub const fn handshake_bucket(microseconds: u32) -> usize {
    let bits = u32::BITS - (microseconds >> 6).leading_zeros();
    let bucket = bits as usize;
    if bucket < HANDSHAKE_BUCKETS { bucket } else { HANDSHAKE_BUCKETS - 1 }
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
        self.reset += other.reset;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.redispatched += other.redispatched;
        self.evicted += other.evicted;
        self.handshake_microseconds += other.handshake_microseconds;
        for (bucket, other) in self.handshakes.iter_mut().zip(other.handshakes) {
            *bucket += other;
        }
    }

    /// Connections open now. A connection may close on another CPU than it opened on, so only the
    /// sum over all CPUs means something.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        let at = [0, 63, 64, 127, 128, 1 << 19, (1 << 20) - 1, 1 << 20, u32::MAX];
        assert_eq!(at.map(handshake_bucket), [0, 0, 1, 1, 2, 14, 14, 15, 15]);
    }
}
