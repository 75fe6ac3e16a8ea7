//! What the backends' decapsulator and its loader agree on: the tables' names, and what becomes of
//! a packet. The balancer has no part in it.

/// The program that the backends' interfaces run.
pub const PROGRAM: &str = "decap";
/// The global that holds the UDP port of GUE, in the host's byte order.
pub const GUE_PORT: &str = "GUE_PORT";
/// Addresses that packets are unwrapped for, IPv4; the value is not used.
pub const ADDRESSES_V4: &str = "ADDRESSES_V4";
/// The same for IPv6.
pub const ADDRESSES_V6: &str = "ADDRESSES_V6";
/// Prefixes that the edges' outer sources are in, IPv4; the value is not used.
pub const EDGES_V4: &str = "EDGES_V4";
/// The same for IPv6.
pub const EDGES_V6: &str = "EDGES_V6";
/// [`Fate`] → packets a CPU.
pub const FATES: &str = "FATES";

/// What became of a packet: a number that is an index into [`FATES`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate(u32);

macro_rules! fates {
    ($($constant:ident = $name:literal, $meaning:literal;)+) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "only numbers the constants")]
        enum Number { $($constant,)+ COUNT }

        impl Fate {
            $(
                #[doc = $meaning]
                pub const $constant: Self = Self(Number::$constant as u32);
            )+
        }

        /// How many fates there are.
        pub const COUNT: usize = Number::COUNT as usize;

        /// Name and meaning of every fate, in the order of their numbers.
        pub const ALL: [(&str, &str); COUNT] = [$(($name, $meaning),)+];
    };
}

fates! {
    UNWRAPPED_IPIP = "unwrapped-ipip", "Unwrapped from IP in IP and handed to the host.";
    UNWRAPPED_GUE = "unwrapped-gue", "Unwrapped from GUE and handed to the host.";
    PASS_NOT_TUNNEL = "pass-not-tunnel", "Neither IP in IP nor UDP to the GUE port.";
    PASS_FRAGMENT = "pass-fragment", "A fragment on the outside, perhaps of a tunnel's packet; the host reassembles it.";
    PASS_OPTIONS = "pass-options", "Perhaps a tunnel's packet, but with IPv4 options or IPv6 extension headers outside.";
    PASS_GUE_VARIANT = "pass-gue-variant", "To the GUE port, but not of variant 1.";
    PASS_UNKNOWN_DESTINATION = "pass-unknown-destination", "A tunnel's packet for none of the addresses given.";
    DROP_REFUSED_SOURCE = "drop-refused-source", "For one of the addresses, but from none of the edges' prefixes.";
    DROP_MALFORMED_OUTER = "drop-malformed-outer", "From an edge or for an address, with an outer header that contradicts itself or its checksum.";
    DROP_MALFORMED_INNER = "drop-malformed-inner", "From an edge, with an inner packet that is cut short or contradicts itself.";
    DROP_CONGESTION = "drop-congestion", "Congestion was marked on the way, but the inner packet cannot carry the mark (RFC 6040).";
    DROP_INTERNAL = "drop-internal", "The kernel would not take the outer headers off. Always zero, or a defect.";
}

impl Fate {
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

    /// Whether the packet is dropped, told by the number: drops stand last.
    #[inline(always)]
    #[must_use]
    pub const fn is_drop(self) -> bool {
        self.0 >= Self::DROP_REFUSED_SOURCE.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn names_tell_the_outcome_and_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (index, (name, meaning)) in ALL.iter().enumerate() {
            let fate = Fate(u32::try_from(index).unwrap());
            assert!(seen.insert(*name), "{name} stands twice");
            assert!(meaning.ends_with('.'));
            assert_eq!(fate.name(), *name);
            assert_eq!(fate.is_drop(), name.starts_with("drop-"));
            assert!(["unwrapped-", "pass-", "drop-"].iter().any(|start| name.starts_with(start)));
        }
    }
}
