//! What a stage hands back: a verdict with its action, or which stage is next.
//!
//! Stages are functions of their own to the kernel, called one after the other: each has the
//! verifier's attention and the stack to itself, and the hot path carries nothing of the rare ones.

use aya_ebpf::bindings::xdp_action;
use lb_common::verdict::Verdict;

/// What the kernel is told to do with a packet: an XDP action code.
#[derive(Clone, Copy)]
pub struct Action(pub u32);

impl Action {
    /// Hand it to the host's own stack.
    pub const PASS: Self = Self(xdp_action::XDP_PASS);
    /// Drop it.
    pub const DROP: Self = Self(xdp_action::XDP_DROP);
    /// Send it out by the interface that it came in by.
    pub const BACK: Self = Self(xdp_action::XDP_TX);

    /// The action of a verdict that does not forward.
    #[inline(always)]
    pub const fn of(verdict: Verdict) -> Self {
        if verdict.is_drop() { Self::DROP } else { Self::PASS }
    }
}

/// The stage that is next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Next(u32);

impl Next {
    /// None: the packet has its verdict.
    pub const DONE: Self = Self(0);
    /// The packet is not plain: take the long road.
    pub const WALK: Self = Self(1);
    /// It has been walked: its connection is next.
    pub const CARRY: Self = Self(8);
    /// It is in no known connection, or asks for a new one.
    pub const OPEN: Self = Self(2);
    /// It is plain, and asks for more than a look at its connection.
    pub const FOLLOW: Self = Self(9);
    /// Its connection goes on, whatever it asked: follow it.
    pub const GOES_ON: Self = Self(3);
    /// It opened its connection: send it on.
    pub const OPENED: Self = Self(7);
    /// It opened its connection, or, `moved` being 1, took it over from another edge: then follow it.
    #[inline(always)]
    pub const fn opened(moved: u32) -> Self {
        // A number, which the verifier has not to follow both ways.
        Self(Self::OPENED.0 - moved * (Self::OPENED.0 - Self::GOES_ON.0))
    }

    /// It is an ICMP message.
    pub const ICMP: Self = Self(4);
    /// It is too big for the way on; the value is what fits.
    pub const TOO_BIG: Self = Self(5);
    /// No backend takes the connection: tell the client. The value is the verdict where it is not told.
    pub const REJECT: Self = Self(6);
}

/// A stage's result, in one register: action and verdict, or the next stage and a value for it.
#[derive(Clone, Copy)]
pub struct Step(u32);

impl Step {
    /// The packet has its verdict.
    #[inline(always)]
    pub const fn done(verdict: Verdict, action: Action) -> Self {
        Self(verdict.index() << 8 | action.0)
    }

    /// Another stage goes on.
    #[inline(always)]
    pub const fn next(next: Next) -> Self {
        Self::with(next, 0)
    }

    /// Another stage goes on, with a value of sixteen bits.
    #[inline(always)]
    pub const fn with(next: Next, value: u32) -> Self {
        Self(value << 16 | next.0 << 4)
    }

    /// A stage's result from its register.
    #[inline(always)]
    pub const fn from_register(register: u32) -> Self {
        Self(register)
    }

    /// The result in a register.
    #[inline(always)]
    pub const fn register(self) -> u32 {
        self.0
    }

    /// The stage that is next.
    #[inline(always)]
    pub const fn stage(self) -> Next {
        Next(self.0 >> 4 & 0xf)
    }

    /// The value for it.
    #[inline(always)]
    pub const fn value(self) -> u32 {
        self.0 >> 16
    }

    /// The verdict of a packet that has it.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        Verdict::from_index(self.0 >> 8)
    }

    /// The action of a packet that has its verdict.
    #[inline(always)]
    pub const fn action(self) -> u32 {
        self.0 & 0xf
    }
}

impl From<Verdict> for Step {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self::done(verdict, Action::of(verdict))
    }
}

impl From<Result<Self, Verdict>> for Step {
    #[inline(always)]
    fn from(result: Result<Self, Verdict>) -> Self {
        match result {
            Ok(step) => step,
            Err(verdict) => verdict.into(),
        }
    }
}
