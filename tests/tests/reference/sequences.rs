//! The tests: what is kept, then random sequences.

use std::{collections::BTreeMap, env};

use evenkeel_tests::netns::Namespace;

use crate::{
    corpus, generate,
    kernel::Kernel,
    play::{CONNECTIONS, PLACES, Stage},
    shrink::shrink,
    world::{Interfaces, MTUS},
};

/// Sequences that are played, where the environment does not say, and steps of each.
const SEQUENCES: u64 = 1_000;
const STEPS: usize = 120;

/// Does something on a stage in a network namespace of its own.
pub fn on_stage<T: Send>(
    name: &str,
    connections: u32,
    places: u32,
    work: impl FnOnce(&mut Stage) -> T + Send,
) -> T {
    let namespace = Namespace::new(name).unwrap();
    for (name, mtu) in ["c0", "c1", "b0"].iter().zip(MTUS) {
        namespace
            .ip(&format!("link add {name} mtu {mtu} type veth peer name {name}-peer"))
            .unwrap();
    }
    let done = namespace.run(|| {
        let clients = [interface("c0"), interface("c1")];
        let interfaces = Interfaces { clients, backends: interface("b0") };
        let kernel = Kernel::new(connections, places);
        Ok(work(&mut Stage { kernel, interfaces }))
    });
    done.unwrap()
}

fn interface(name: &str) -> u32 {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    rustix::net::netdevice::name_to_index(socket.unwrap(), name).unwrap()
}

/// A number that the environment sets.
pub fn setting(name: &str, otherwise: u64) -> u64 {
    env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn what_went_wrong_once_goes_right() {
    on_stage("corpus", CONNECTIONS, PLACES, |stage| {
        for (name, case) in corpus::all() {
            if let Err(difference) = stage.play(&case) {
                panic!("{name}: step {}: {}", difference.step, difference.what);
            }
        }
    });
}

/// `EVENKEEL_SEED` and `EVENKEEL_SEQUENCES` play others, or more.
#[test]
fn random_sequences_go_as_the_model_says() {
    let first = setting("EVENKEEL_SEED", 1);
    let count = setting("EVENKEEL_SEQUENCES", SEQUENCES);
    on_stage("reference", CONNECTIONS, PLACES, |stage| {
        let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in first..first + count {
            let case = generate::case(seed, STEPS);
            match stage.play(&case) {
                Ok(given) => {
                    for (name, times) in given {
                        *verdicts.entry(name).or_default() += times;
                    }
                }
                Err(difference) => {
                    let (mut small, difference) = shrink(stage, &case, difference);
                    small.about = format!("found with seed {seed}");
                    let file = corpus::keep(&format!("found-{seed}"), &small);
                    panic!(
                        "seed {seed}, kept in {}:\n{}step {}: {}",
                        file.display(),
                        corpus::text(&small),
                        difference.step,
                        difference.what
                    );
                }
            }
        }
        println!("{verdicts:#?}");
    });
}
