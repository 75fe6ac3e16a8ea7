//! The hash of flows and of clients: the same on every host and in every version, because edges
//! that share an address must choose the same backend.

use crate::{connection::Flow, net::Address};

/// Mixes all bits of a word into all others: the finaliser of `MurmurHash3` for 32 bits.
#[inline(always)]
#[must_use]
const fn mix(mut word: u32) -> u32 {
    word ^= word >> 16;
    word = word.wrapping_mul(0x85eb_ca6b);
    word ^= word >> 13;
    word = word.wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

/// Folds an address into a hash, word by word.
#[inline(always)]
fn address<A: Address>(seed: u32, address: &A) -> u32 {
    address.mix_words(seed, |hash, word| mix(hash ^ u32::from_be(word)).wrapping_add(0x9e37_79b9))
}

/// The hash of a client's address.
#[inline(always)]
#[must_use]
pub fn client<A: Address>(client: &A) -> u32 {
    mix(address(0, client))
}

/// The hash of a client's flow: its addresses, ports and protocol.
#[inline(always)]
#[must_use]
pub fn flow<A: Address>(flow: &Flow<A>) -> u32 {
    let hash = address(address(flow.protocol, &flow.source), &flow.destination);
    mix(hash ^ u32::from_be_bytes(flow.ports.to_wire()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Addr4, Addr6, Be16};

    const fn v4(last: u8) -> Addr4 {
        Addr4::from_wire([198, 51, 100, last])
    }

    #[test]
    fn hashes_spread_and_stay_what_they_are() {
        let service = (v4(200), Be16::new(80));
        let of = |host: u8, port: u16| flow(&Flow::new((v4(host), Be16::new(port)), service, 6));
        let mut counts = [0_u32; 7];
        for port in 0..7000 {
            counts[(of(1, 1024 + port) % 7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let mut counts = [0_u32; 7];
        for host in 0..=250 {
            counts[(client(&v4(host)) % 7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (18..55).contains(count)), "{counts:?}");
        // Edges of different versions share clients: these values never change.
        assert_eq!((of(1, 40_000), client(&v4(1))), (FLOW, CLIENT));
        let v6 = Addr6::from_wire([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(client(&v6), CLIENT6);
    }

    const FLOW: u32 = 2_920_568_635;
    const CLIENT: u32 = 594_645_251;
    const CLIENT6: u32 = 3_189_564_967;
}
