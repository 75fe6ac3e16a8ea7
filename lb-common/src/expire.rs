//! The request that the controller sends to the `expire` program: which entries to end, and when.
//!
//! The request is the packet of a test-run: an [`ExpireHeader`], followed by `count` candidates
//! of one family. Only the program touches the connection table and the counters, so that the
//! check of an entry's age and its removal see the same table as the packets do. By the same way the
//! controller corrects a backend's count of connections: a [`Correction`] follows the head.

use bytemuck::{Pod, Zeroable};

use crate::{
    connection::Flow,
    net::{Addr4, Addr6, Address, Hop},
};

/// Candidates that one request can carry, either family.
pub const MAX_CANDIDATES: usize = 64;

/// Requests that end nothing: an answer is the program's return value.
pub mod ask {
    /// The [`crate::clock`] tick now.
    pub const TICK: u32 = 0;
    /// The low 32 bits of the kernel's jiffies.
    pub const JIFFIES: u32 = 1;
    /// None: a [`super::Correction`] follows.
    pub const CORRECT: u32 = 2;
}

/// Head of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ExpireHeader {
    /// Address family: 4 or 6; or a question of [`ask`].
    pub family: u32,
    /// Candidates that follow, at most [`MAX_CANDIDATES`].
    pub count: u32,
    /// With [`Self::to`]: candidates are not ended. Those whose client is reached by this interface, and by
    /// this neighbour where one is given, are from now on reached by the other way.
    pub from: Hop,
    /// The other way, of which the interface's own address is not used; unknown: candidates are ended.
    pub to: Hop,
}

/// One candidate.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Candidate<A> {
    /// Key of the entry, forward or reverse.
    pub flow: Flow<A>,
    /// The connection ends if neither way saw a packet for more than this many ticks; zero ends
    /// it at once.
    pub idle_ticks: u32,
}

/// What to add to the program's counts of a backend's connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Correction {
    /// The backend's id.
    pub backend: u32,
    /// Zero.
    pub reserved: u32,
    /// To the open ones.
    pub open: i64,
    /// To the established ones.
    pub established: i64,
}

const _: () = {
    assert!(size_of::<Candidate<Addr4>>() == 20 && size_of::<Candidate<Addr6>>() == 44);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for Candidate<A> {}
