//! Maglev's look-up table (Eisenbud et al., NSDI 2016, section 3.4): every backend fills slots in an
//! order of its own, in turns by its weight, so that a backend that comes or goes moves few others.
//!
//! The table depends on the backends' addresses and weights alone: every host makes the same one of
//! the same configuration, in whatever order it names them.

use std::net::{IpAddr, SocketAddr};

use super::BackendId;

/// A backend as the table knows it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its id, which the slots hold.
    pub id: BackendId,
    /// Its share.
    pub weight: u16,
    /// What it is known by.
    pub address: SocketAddr,
}

/// The table of `size` slots, a prime.
pub fn table(members: &[Member], size: u32) -> Vec<BackendId> {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.address);
    let heaviest = members.iter().map(|member| u64::from(member.weight)).max().unwrap_or(0);
    if heaviest == 0 || size == 0 {
        return Vec::new();
    }
    let size = u64::from(size);
    let mut walks: Vec<Walk> = members.iter().map(|member| Walk::of(member, size)).collect();
    let mut slots = vec![None; usize::try_from(size).unwrap_or(usize::MAX)];
    let mut left = size;
    // In a round the heaviest backend takes a slot; every other one as its credit allows.
    loop {
        for walk in &mut walks {
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            // The walk is over every slot, and one is left: it ends.
            loop {
                let slot = &mut slots[usize::try_from(walk.next).unwrap_or_default()];
                walk.next = (walk.next + walk.skip) % size;
                if slot.is_none() {
                    *slot = Some(walk.id);
                    break;
                }
            }
            left -= 1;
            if left == 0 {
                return slots.into_iter().flatten().collect();
            }
        }
    }
}

/// A backend's walk over the slots.
struct Walk {
    id: BackendId,
    weight: u64,
    credit: u64,
    next: u64,
    skip: u64,
}

impl Walk {
    fn of(member: &Member, size: u64) -> Self {
        let bytes = identity(member.address);
        let skip = if size > 1 { hash(&bytes, 2) % (size - 1) + 1 } else { 0 };
        Self {
            id: member.id,
            weight: u64::from(member.weight),
            credit: 0,
            next: hash(&bytes, 1) % size,
            skip,
        }
    }
}

fn identity(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

/// FNV-1a with a finaliser: small, and the same for ever, which a library's hash need not be.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 65_537;

    fn members(weights: &[u16]) -> Vec<Member> {
        let member = |(id, weight): (u32, &u16)| Member {
            id: BackendId(id),
            weight: *weight,
            address: SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_000b + id).into(), 8080),
        };
        (0..).zip(weights).map(member).collect()
    }

    fn counts(table: &[BackendId]) -> HashMap<BackendId, u32> {
        let mut counts = HashMap::new();
        for id in table {
            *counts.entry(*id).or_default() += 1;
        }
        counts
    }

    #[test]
    fn shares_are_the_weights() {
        let weights = [1, 2, 5, 100, 1];
        let table = table(&members(&weights), SIZE);
        assert_eq!(table.len(), SIZE as usize);
        let counts = counts(&table);
        let total: u16 = weights.iter().sum();
        for (id, weight) in (0..).zip(weights) {
            let fair = f64::from(SIZE) * f64::from(weight) / f64::from(total);
            let share = f64::from(counts[&BackendId(id)]);
            assert!((share - fair).abs() < 2.0, "{id}: {share} of {fair}");
        }
    }

    #[test]
    fn few_slots_move_with_a_backend() {
        let all = members(&[1; 20]);
        let before = table(&all, SIZE);
        let after = table(&all[1..], SIZE);
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        let gone = counts(&before)[&BackendId(0)] as usize;
        // Every slot of the one that left, and a few more.
        assert!(moved >= gone && moved < gone * 2, "{moved} moved, {gone} had to");
    }

    #[test]
    fn the_table_never_changes() {
        // Edges of different versions share clients.
        let table = table(&members(&[1, 1, 2]), 13);
        let table: Vec<_> = table.into_iter().map(|id| id.0).collect();
        assert_eq!(table, [2, 1, 2, 0, 1, 2, 2, 1, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn small_tables() {
        assert!(table(&[], SIZE).is_empty());
        assert_eq!(table(&members(&[7]), 2), [BackendId(0); 2]);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            weights in prop::collection::vec(1_u16..9, 1..9),
            swaps in prop::collection::vec((0_usize..9, 0_usize..9), 0..9),
        ) {
            let mut members = members(&weights);
            let before = table(&members, 251);
            for (a, b) in swaps {
                let count = members.len();
                members.swap(a % count, b % count);
            }
            prop_assert_eq!(table(&members, 251), before);
        }
    }
}
