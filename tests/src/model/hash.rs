//! The hash of flows and clients. Edges that share an address must agree on it, so its values are
//! part of the contract: words of four bytes in network order, each mixed in by `MurmurHash3`'s
//! finaliser for 32 bits.

use std::net::IpAddr;

use super::{Flow, sum::octets};

fn mix(word: u32) -> u32 {
    let word = (word ^ word >> 16).wrapping_mul(0x85eb_ca6b);
    let word = (word ^ word >> 13).wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

fn address(seed: u32, address: IpAddr) -> u32 {
    octets(address).chunks(4).fold(seed, |hash, word| {
        let word = word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        mix(hash ^ word).wrapping_add(0x9e37_79b9)
    })
}

/// The hash of a client's address.
#[must_use]
pub fn client(client: IpAddr) -> u32 {
    mix(address(0, client))
}

/// The hash of a flow.
#[must_use]
pub fn flow(flow: &Flow) -> u32 {
    let ports = u32::from(flow.source.port()) << 16 | u32::from(flow.destination.port());
    let hash = address(flow.protocol.into(), flow.source.ip());
    mix(address(hash, flow.destination.ip()) ^ ports)
}

/// The hash of the same flow for another attempt.
#[must_use]
pub fn again(hash: u32, attempt: u32) -> u32 {
    hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_edges_agreed_on() {
        let one: IpAddr = [198, 51, 100, 1].into();
        assert_eq!(client(one), 594_645_251);
        assert_eq!(client("2001:db8::2".parse().unwrap()), 3_189_564_967);
        let to: IpAddr = [198, 51, 100, 200].into();
        let of = Flow { source: (one, 40_000).into(), destination: (to, 80).into(), protocol: 6 };
        assert_eq!(flow(&of), 2_920_568_635);
    }
}
