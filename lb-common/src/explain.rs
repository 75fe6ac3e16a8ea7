//! A question to the `explain` program: what would become of a client's next connection, and why.
//!
//! The question is the packet of a test-run: a family, then a [`Question`] of it, in which the program writes
//! the [`Answer`]. It looks at the tables that packets go by, and changes nothing in them.

use bytemuck::{Pod, Zeroable};

use crate::{
    connection::Flow,
    net::{Addr4, Addr6, Address},
};

/// No id, slot or verdict.
pub const NONE: u32 = u32::MAX;

/// Backends without room that an answer names.
pub const MOST_FULL: usize = 4;

/// What follows the family, 4 or 6, of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Question<A> {
    /// The connection's key: from the client to the service.
    pub flow: Flow<A>,
    /// Room for the answer.
    pub answer: Answer,
}

/// What the program says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Answer {
    /// One of [`outcome`]; zero: the program gave no answer.
    pub outcome: u32,
    /// The number of the verdict, where the connection is turned away.
    pub verdict: u32,
    /// The service's id.
    pub service: u32,
    /// The backend's id.
    pub backend: u32,
    /// The slot of the service's ring that names the backend, counted from zero.
    pub slot: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// The service's cursor as it stands, its low half first.
    pub cursor: [u32; 2],
    /// Backends that would have been chosen and have no room.
    pub full: [u32; MOST_FULL],
    /// One of [`meets`].
    pub meets: u32,
    /// The backend of the connection that is met.
    pub met: u32,
    /// Bits of its state.
    pub state: u32,
}

/// Values of [`Answer::outcome`].
pub mod outcome {
    /// Its packets belong to a connection that there is.
    pub const EXISTS: u32 = 1;
    /// The client keeps its backend.
    pub const STICKY: u32 = 2;
    /// A slot of the ring.
    pub const SLOT: u32 = 3;
    /// Drawn at random when it comes, of those that have room.
    pub const DRAWN: u32 = 4;
    /// The slots that are tried name full backends: the first one that has room.
    pub const ANY: u32 = 5;
    /// It is turned away, for the verdict's reason.
    pub const AWAY: u32 = 6;
}

/// Values of [`Answer::meets`]: what connection with the same ends there is.
pub mod meets {
    /// None.
    pub const NONE: u32 = 0;
    /// One that goes on.
    pub const OPEN: u32 = 1;
    /// One that is over, whose place the new one takes.
    pub const OVER: u32 = 2;
    /// One that its backend refused or did not answer in time: another backend is tried.
    pub const FAILED: u32 = 3;
}

const _: () = {
    assert!(size_of::<Answer>() == 60);
    assert!(size_of::<Question<Addr4>>() == 76 && size_of::<Question<Addr6>>() == 100);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for Question<A> {}
