//! What came to each backend over the last 10 seconds, minute and ten minutes, beside what its fair share of
//! it was. Pure: counters, rings and the time are passed in.
//!
//! The fair share is that of the ring at the time of each connection: a backend that joined a moment ago is
//! not behind, and one that left is not ahead. Time is cut in pieces; those of the longer windows are made of
//! those of the shorter ones, and a backend that nothing came to takes no room.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use lb_common::counters::{BackendCounters, HANDSHAKE_BUCKETS};

use crate::{
    api::model::{Window, WindowBackend},
    plan::{BackendId, ServiceId, Tables},
    statistics::Sample,
};

/// The shortest piece of time.
const PIECE: Duration = Duration::from_secs(2);
/// Pieces that make one of the minute's.
const OF_MINUTE: usize = 5;
/// Pieces of the minute that make one of the ten minutes'.
const OF_TEN_MINUTES: usize = 12;
/// The windows, in seconds.
pub const SECONDS: [u64; 3] = [10, 60, 600];

/// What came to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    connections: u64,
    /// Connections that its fair share was.
    fair: f64,
    bytes: u64,
    packets: u64,
    refused: u64,
    unanswered: u64,
    reset: u64,
    handshakes: [u32; HANDSHAKE_BUCKETS],
}

/// How far the backends' shares of connections stray from the fair ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Imbalance {
    /// Connections that it rests on.
    pub connections: u64,
    /// The largest share over its fair share.
    pub index: f64,
    /// The coefficient of variation of the shares over the fair ones.
    pub variation: f64,
    /// Whose share that is, by its place in the list.
    pub most: usize,
    /// The fair share of that one, 0 to 1.
    pub fair: f64,
}

/// What came in a stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    amounts: HashMap<BackendId, Amount>,
    covers: Duration,
}

/// What came in the last while.
#[derive(Debug, Default)]
pub struct Windows {
    last: HashMap<BackendId, BackendCounters>,
    last_at: Option<Instant>,
    /// The rings' shares, each with the revision of the ring that they are of.
    shares: HashMap<ServiceId, (u64, HashMap<BackendId, f64>)>,
    /// Not a whole piece yet.
    current: Piece,
    short: VecDeque<Piece>,
    /// How many of the short ones are in no longer one yet.
    short_left: usize,
    middle: VecDeque<Piece>,
    middle_left: usize,
    long: VecDeque<Piece>,
}

impl Windows {
    /// Notes what the counters are. The `revision` of a service is another one when its ring has changed.
    pub fn observe(
        &mut self,
        now: Instant,
        counters: &HashMap<BackendId, BackendCounters>,
        tables: &Tables,
        revision: impl Fn(ServiceId) -> u64,
    ) {
        let mut grown = HashMap::new();
        for (id, counters) in counters {
            // What was counted before it was first seen came at another time.
            if let Some(last) = self.last.insert(*id, *counters)
                && let Some(amount) = Amount::between(&last, counters)
            {
                grown.insert(*id, amount);
            }
        }
        self.last.retain(|id, _| counters.contains_key(id));
        self.current.covers += self.last_at.map_or(Duration::ZERO, |last| now.duration_since(last));
        self.last_at = Some(now);
        self.note_fair(&mut grown, tables);
        let is_live = |id: &ServiceId| tables.services.get(id).is_some_and(|service| service.live);
        self.shares.retain(|id, _| is_live(id));
        for (id, service) in tables.services.iter().filter(|(_, service)| service.live) {
            let revision = revision(*id);
            let known = self.shares.get(id).map(|(revision, _)| *revision);
            if known != Some(revision) {
                self.shares.insert(*id, (revision, service.ring.shares()));
            }
        }
        self.current.add(&Piece { amounts: grown, covers: Duration::ZERO });
        if self.current.covers >= PIECE {
            self.cut();
        }
    }

    /// Adds to each backend what its fair share was of what came, by the rings that were there meanwhile.
    fn note_fair(&self, grown: &mut HashMap<BackendId, Amount>, tables: &Tables) {
        let mut came: HashMap<ServiceId, u64> = HashMap::new();
        for (id, amount) in grown.iter().filter(|(_, amount)| amount.connections > 0) {
            if let Some(backend) = tables.backends.get(id) {
                *came.entry(backend.service_id).or_default() += amount.connections;
            }
        }
        for (service, came) in came {
            let Some((_, shares)) = self.shares.get(&service) else { continue };
            for (id, share) in shares {
                grown.entry(*id).or_default().fair += real(came) * share;
            }
        }
    }

    fn cut(&mut self) {
        keep(&mut self.short, std::mem::take(&mut self.current), OF_MINUTE);
        self.short_left += 1;
        if self.short_left == OF_MINUTE {
            self.short_left = 0;
            keep(&mut self.middle, sum(&self.short), OF_TEN_MINUTES);
            self.middle_left += 1;
        }
        if self.middle_left == OF_TEN_MINUTES {
            self.middle_left = 0;
            keep(&mut self.long, sum(&self.middle), 4);
        }
    }

    /// What came in each of the windows, none of them longer than it is called.
    #[must_use]
    pub fn totals(&self) -> [Piece; 3] {
        let mut ten_seconds = sum(newest(&self.short, OF_MINUTE - 1));
        ten_seconds.add(&self.current);
        let mut minute = sum(newest(&self.short, self.short_left));
        minute.add(&self.current);
        let mut ten_minutes = minute.clone();
        newest(&self.middle, OF_MINUTE).for_each(|piece| minute.add(piece));
        newest(&self.middle, self.middle_left).for_each(|piece| ten_minutes.add(piece));
        self.long.iter().for_each(|piece| ten_minutes.add(piece));
        [ten_seconds, minute, ten_minutes]
    }
}

impl Amount {
    /// What was counted in between; `None`: nothing, or the id is another backend's by now.
    fn between(last: &BackendCounters, now: &BackendCounters) -> Option<Self> {
        if last == now {
            return None;
        }
        let mut handshakes = [0; HANDSHAKE_BUCKETS];
        for (bucket, (now, last)) in
            handshakes.iter_mut().zip(now.handshakes.iter().zip(&last.handshakes))
        {
            *bucket = u32::try_from(now.checked_sub(*last)?).unwrap_or(u32::MAX);
        }
        Some(Self {
            connections: now.opened.checked_sub(last.opened)?,
            fair: 0.0,
            bytes: (now.bytes_in + now.bytes_out).checked_sub(last.bytes_in + last.bytes_out)?,
            packets: (now.packets_in + now.packets_out)
                .checked_sub(last.packets_in + last.packets_out)?,
            refused: now.refused.checked_sub(last.refused)?,
            unanswered: now.unanswered.checked_sub(last.unanswered)?,
            reset: now.reset.checked_sub(last.reset)?,
            handshakes,
        })
    }

    /// Connections that went wrong.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.refused + self.unanswered + self.reset
    }

    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.fair += other.fair;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.reset += other.reset;
        for (bucket, other) in self.handshakes.iter_mut().zip(other.handshakes) {
            *bucket = bucket.saturating_add(other);
        }
    }

    /// The time in microseconds that a part of the handshakes took no longer than, interpolated in its
    /// bucket; `None` where there was none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let all: u64 = self.handshakes.iter().map(|count| u64::from(*count)).sum();
        let wanted = part * real(all);
        let mut below = 0.0;
        for (index, count) in self.handshakes.iter().enumerate().filter(|(_, count)| **count > 0) {
            let here = f64::from(*count);
            if below + here >= wanted {
                let (from, to) = (if index == 0 { 0 } else { 32 << index }, 64_u64 << index);
                let within = real(to - from) * ((wanted - below) / here).clamp(0.0, 1.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "small"
                )]
                return Some(from + within.round() as u64);
            }
            below += here;
        }
        None
    }
}

impl Piece {
    fn add(&mut self, other: &Self) {
        self.covers += other.covers;
        for (id, amount) in &other.amounts {
            self.amounts.entry(*id).or_default().add(amount);
        }
    }

    /// What came to a backend.
    #[must_use]
    pub fn of(&self, id: BackendId) -> Amount {
        self.amounts.get(&id).copied().unwrap_or_default()
    }

    /// What came to a service, whose backends are these.
    #[must_use]
    pub fn window(&self, seconds: u64, backends: &[(&str, Option<BackendId>)]) -> Window {
        let amounts: Vec<_> =
            backends.iter().map(|(_, id)| id.map(|id| self.of(id)).unwrap_or_default()).collect();
        let total = |of: fn(&Amount) -> u64| amounts.iter().map(of).sum::<u64>();
        let (connections, bytes, errors) =
            (total(|a| a.connections), total(|a| a.bytes), total(Amount::errors));
        let due: f64 = amounts.iter().map(|amount| amount.fair).sum();
        let imbalance = imbalance(&amounts);
        let part = |of: u64, all: u64| if all == 0 { 0.0 } else { real(of) / real(all) };
        let backend = |((name, _), amount): (&(&str, Option<BackendId>), &Amount)| WindowBackend {
            name: (*name).to_owned(),
            connections: amount.connections,
            fair: if due > 0.0 { amount.fair / due } else { 0.0 },
            share: part(amount.connections, connections),
            bytes: amount.bytes,
            bytes_share: part(amount.bytes, bytes),
            packets: amount.packets,
            errors: amount.errors(),
            errors_share: part(amount.errors(), errors),
            refused: amount.refused,
            unanswered: amount.unanswered,
            reset: amount.reset,
            handshake_p50_us: amount.quantile(0.5),
            handshake_p99_us: amount.quantile(0.99),
        };
        Window {
            seconds,
            covers: self.covers.as_secs_f64(),
            connections,
            index: imbalance.map(|imbalance| imbalance.index),
            variation: imbalance.map(|imbalance| imbalance.variation),
            backends: backends.iter().zip(&amounts).map(backend).collect(),
        }
    }
}

/// How connections were shared out over backends; `None` where none came to those that were due some.
#[must_use]
pub fn imbalance(amounts: &[Amount]) -> Option<Imbalance> {
    let due: Vec<_> = amounts.iter().enumerate().filter(|(_, amount)| amount.fair > 0.0).collect();
    let weights: Vec<f64> = due.iter().map(|(_, amount)| amount.fair).collect();
    let counts: Vec<u64> = due.iter().map(|(_, amount)| amount.connections).collect();
    let connections = counts.iter().sum();
    if connections == 0 {
        return None;
    }
    let sample = Sample { weights: &weights, counts: &counts, draws: 1.0 };
    let over = sample.over_fair().into_iter().enumerate();
    let (most, index) = over.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let fair = weights[most] / weights.iter().sum::<f64>();
    Some(Imbalance { connections, index, variation: sample.variation(), most: due[most].0, fair })
}

/// The windows of a service, whose backends are these.
#[must_use]
pub fn of_service(totals: &[Piece; 3], backends: &[(&str, Option<BackendId>)]) -> Vec<Window> {
    totals.iter().zip(SECONDS).map(|(piece, seconds)| piece.window(seconds, backends)).collect()
}

fn keep(pieces: &mut VecDeque<Piece>, piece: Piece, most: usize) {
    pieces.push_back(piece);
    if pieces.len() > most {
        pieces.pop_front();
    }
}

fn newest(pieces: &VecDeque<Piece>, most: usize) -> impl Iterator<Item = &Piece> {
    pieces.iter().skip(pieces.len().saturating_sub(most))
}

fn sum<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> Piece {
    pieces.into_iter().fold(Piece::default(), |mut sum, piece| {
        sum.add(piece);
        sum
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
