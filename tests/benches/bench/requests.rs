//! Requests from a client through the edge to two web servers: how many a second, and how long one
//! takes; with the balancer, with nothing but the edge's kernel, which forwards, and with peers.
//!
//! Client, servers and whatever stands on the edge share the machine's processors. All contenders
//! take their turns in every round, there and back, so that a busy moment of the machine meets all of
//! them, and none has to come after the same other every time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use evenkeel_tests::{latency::Sampling, wrk::Wrk};

use crate::{
    comparison::{Requests, Run},
    contenders::Contender,
    peers::Peer,
};

/// Connections at once where throughput is measured.
const CONNECTIONS: u32 = 64;

/// Requests at once where their time is measured: few, so that they do not wait for one another.
const ASKERS: usize = 4;

/// The ways to use connections, with the share of the throughput without a balancer that
/// DESIGN.md asks for.
const KINDS: [(&str, f64, bool); 2] =
    [("keep-alive", 0.95, true), ("a connection per request", 1.0, false)];

/// Measures every contender in each way, one after the other, for some rounds.
pub fn measure(quick: bool, peers: bool) -> Result<Requests> {
    let (rounds, load, sample) = if quick { (3, 2, 1) } else { (7, 5, 3) };
    let [load, sample] = [load, sample].map(Duration::from_secs);
    let mut contenders = vec![Contender::nothing()?, Contender::evenkeel()?];
    if peers {
        let peers = Peer::all().context("start the peers")?;
        contenders.extend(peers.map(Contender::peer));
    }

    let mut throughput = Vec::new();
    for (name, target, keep_alive) in KINDS {
        let wrk = Wrk { connections: CONNECTIONS, duration: load, keep_alive };
        let what = format!("requests per second, {name}");
        // The first round only warms up.
        let mut all = alternate(&contenders, rounds + 1, &what, |way| way.load(wrk))?;
        all.remove(0);
        throughput.push(Run { name, target: Some(target), rounds: all });
    }
    let mut latency = Vec::new();
    for (name, _, keep_alive) in KINDS {
        let sampling = Sampling { askers: ASKERS, duration: sample, keep_alive };
        let what = format!("time of a request, {name}");
        let all = alternate(&contenders, rounds, &what, |way| way.time(sampling))?;
        latency.push(Run { name, target: None, rounds: all });
    }
    let contenders = contenders.iter().map(|way| (way.name, way.version.clone())).collect();
    Ok(Requests {
        contenders,
        connections: CONNECTIONS,
        load,
        throughput,
        askers: ASKERS,
        sample,
        latency,
    })
}

/// Measures all contenders once a round. Returns for every round what each showed, in the
/// contenders' order.
fn alternate<T>(
    contenders: &[Contender],
    rounds: usize,
    what: &str,
    measure: impl Fn(&Contender) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut all = Vec::new();
    for round in 0..rounds {
        // There and back, so that none always comes after the same other.
        let back = round % 2 == 1;
        let turn = |index| if back { contenders.len() - 1 - index } else { index };
        let turns = (0..contenders.len()).map(|index| measure(&contenders[turn(index)]));
        let mut seen = turns.collect::<Result<Vec<_>>>()?;
        if back {
            seen.reverse();
        }
        all.push(seen);
        eprintln!("{what}: round {} of {rounds}", round + 1);
    }
    Ok(all)
}
