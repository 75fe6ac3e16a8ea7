//! Every verdict: one reason, one counter, one name.
//!
//! A verdict is a number that counts into one slot of the verdict table. What happens to the
//! packet follows from the number alone.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Rewritten and sent on to the backend or the client.
    Forward,
    /// Answered by a packet of our own to its sender.
    Reply,
    /// Handed to the host's own stack.
    Pass,
    /// Dropped.
    Drop,
}

/// A verdict's number; an index into the verdict table.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u32);

macro_rules! verdicts {
    ($($constant:ident = $name:literal $outcome:ident, $meaning:literal;)+) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "only numbers the constants")]
        enum Number { $($constant,)+ COUNT }

        impl Verdict {
            $(
                #[doc = $meaning]
                pub const $constant: Self = Self(Number::$constant as u32);
            )+
        }

        /// How many verdicts there are.
        pub const COUNT: usize = Number::COUNT as usize;

        /// Name, outcome and meaning of every verdict, in the order of their numbers.
        pub const ALL: [(&str, Outcome, &str); COUNT] =
            [$(($name, Outcome::$outcome, $meaning),)+];
    };
}

verdicts! {
    TO_BACKEND = "to-backend" Forward, "Sent on to a backend.";
    TO_CLIENT = "to-client" Forward, "A backend's packet, sent on to its client.";
    ICMP_TO_BACKEND = "icmp-to-backend" Forward, "An ICMP error about a connection, sent on to its backend.";
    ICMP_TO_CLIENT = "icmp-to-client" Forward, "An ICMP error about a connection, sent on to its client.";
    REPLY_ECHO = "reply-echo" Reply, "An echo request to a service's address that the host has not, answered.";
    REPLY_TOO_BIG = "reply-too-big" Reply, "Too big for the way on; the sender was told by ICMP.";
    REPLY_OVERLOAD = "reply-overload" Reply, "A new connection while every backend has all it takes; the client was told.";
    REPLY_NO_BACKEND = "reply-no-backend" Reply, "A new connection while no backend is active; the client was told.";
    PASS_NOT_IP = "pass-not-ip" Pass, "Neither IPv4 nor IPv6: ARP and all else.";
    PASS_NOT_OURS = "pass-not-ours" Pass, "For an address that is no service's and no NAT source.";
    PASS_NO_SERVICE = "pass-no-service" Pass, "For one of our addresses, but for no service and no connection there.";
    PASS_PROTOCOL = "pass-protocol" Pass, "For one of our addresses, but neither TCP, UDP nor an ICMP message that concerns us.";
    PASS_FRAGMENT = "pass-fragment" Pass, "A fragment for one of our addresses that is no service's, of a packet not known.";
    PASS_NO_CONNECTION = "pass-no-connection" Pass, "For a TCP service, in no known connection and not opening one; the host answers.";
    PASS_TTL = "pass-ttl" Pass, "The TTL or hop limit ends here; the host tells the sender.";
    PASS_NO_NEXT_HOP = "pass-no-next-hop" Pass, "The way to the backend is not known; the host is left to find it.";
    DROP_MALFORMED_IP = "drop-malformed-ip" Drop, "For a service, with an IP header that contradicts itself.";
    DROP_MALFORMED_TRANSPORT = "drop-malformed-transport" Drop, "For a service, with a TCP, UDP or ICMP header that is cut short or contradicts itself.";
    DROP_EXTENSIONS = "drop-extensions" Drop, "For a service, with more IPv6 extension headers than are walked.";
    DROP_FRAGMENT = "drop-fragment" Drop, "A fragment for a service that came before its packet's first.";
    DROP_DENIED = "drop-denied" Drop, "A new connection from a client that is not allowed.";
    DROP_CLIENT_LIMIT = "drop-client-limit" Drop, "A new connection beyond the limit of its client's prefix.";
    DROP_SERVICE_LIMIT = "drop-service-limit" Drop, "A new connection beyond the service's limit.";
    DROP_OVERLOAD = "drop-overload" Drop, "A new connection while every backend has all it takes.";
    DROP_REFUSED = "drop-refused" Drop, "A backend's refusal of a new connection, which another backend will be given.";
    DROP_GIVEN_UP = "drop-given-up" Drop, "A late packet of an attempt that was given up at that moment: another backend has it.";
    DROP_PATH_MTU = "drop-path-mtu" Drop, "A router's message that a tunnel's packet was too big for it, noted: senders are told what fits.";
    DROP_TOO_BIG = "drop-too-big" Drop, "Too big for the way on, and the sender cannot be told now.";
    DROP_NO_BACKEND = "drop-no-backend" Drop, "A new connection while no backend is active, and the client is not told: one may be up in a moment.";
    DROP_NO_SOURCE_PORT = "drop-no-source-port" Drop, "No source port is free towards the chosen backend.";
    DROP_TABLE_FULL = "drop-table-full" Drop, "The connection table is full.";
    DROP_INTERNAL = "drop-internal" Drop, "A table entry that must be there is not. Always zero, or a defect.";
}

impl Verdict {
    /// The verdict of a number below [`COUNT`]; of any other, the last one.
    #[inline(always)]
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        if (index as usize) < COUNT { Self(index) } else { Self::DROP_INTERNAL }
    }

    /// Index of its counter.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Its name, as the counters show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ALL[self.0 as usize].0
    }

    /// What it means, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        ALL[self.0 as usize].2
    }

    /// What becomes of the packet.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        ALL[self.0 as usize].1
    }

    /// Whether the packet is dropped, told by the number: drops stand last.
    #[inline(always)]
    #[must_use]
    pub const fn is_drop(self) -> bool {
        self.0 >= Self::DROP_MALFORMED_IP.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn names_tell_the_outcome_and_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (index, (name, outcome, meaning)) in ALL.iter().enumerate() {
            let verdict = Verdict(u32::try_from(index).unwrap());
            assert!(seen.insert(*name), "{name} stands twice");
            assert!(meaning.ends_with('.'));
            assert_eq!(name.starts_with("reply-"), *outcome == Outcome::Reply);
            assert_eq!(name.starts_with("pass-"), *outcome == Outcome::Pass);
            assert_eq!(name.starts_with("drop-"), *outcome == Outcome::Drop);
            assert_eq!(verdict.is_drop(), verdict.outcome() == Outcome::Drop);
        }
    }
}
