//! Whether those that are left could carry a service if one more failed: the connections that are open
//! now, or were at the recent peak, against what the configuration says each can carry.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    super::{
        Kind,
        facts::{BackendFacts, ServiceFacts},
    },
    Finding,
};
use crate::verify::{Carrier, Limit, LimitedBy, is_carried};

/// Parts that the time of a peak is remembered in.
const PARTS: u32 = 20;
/// What must be to spare before the alert clears.
const SPARE: f64 = 1.1;

/// The most open connections of a service lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Peak(VecDeque<(Instant, u64)>);

impl Peak {
    /// Takes in how many are open now; answers the most within `recent`.
    pub(super) fn note(&mut self, open: u64, recent: Duration, now: Instant) -> u64 {
        let part = recent / PARTS;
        match self.0.back_mut() {
            Some((at, most)) if now.saturating_duration_since(*at) < part => {
                *most = open.max(*most);
            }
            _ => self.0.push_back((now, open)),
        }
        let old = |at: Instant| now.saturating_duration_since(at) > recent;
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, _)| old(*at)) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, most)| *most).max().unwrap_or(open).max(open)
    }
}

pub(super) fn judge(found: &mut Vec<Finding>, service: &ServiceFacts<'_>, open: u64, peak: u64) {
    let usable: Vec<_> = service.backends.iter().filter(|backend| backend.is_usable()).collect();
    let states = |backend: &&&BackendFacts<'_>| {
        backend.capacity.is_some() || backend.max_connections.is_some()
    };
    // Nobody says what they can carry.
    if peak == 0 || usable.iter().find(states).is_none() {
        return;
    }
    for lost in candidates(&usable) {
        let carriers = left(&usable, lost, service.min_active as usize);
        if carriers.is_empty() || is_carried(real(peak) * SPARE, &carriers) {
            continue;
        }
        let certain = !is_carried(real(peak), &carriers);
        let rest = carriers.len();
        let most = crate::verify::most(&carriers);
        let name = service.name;
        let summary = match lost {
            Some(lost) => format!(
                "if {} failed, the {rest} left of service {name} could not carry its {peak} connections",
                usable[lost].name
            ),
            None => {
                format!("{} cannot carry the {peak} connections of service {name}", usable[0].name)
            }
        };
        let finding = Finding::of_service(Kind::NoHeadroom, name, certain, summary)
            .count("open", open)
            .count("peak", peak)
            .count("left", rest as u64)
            .text("if_fails", lost.map_or("", |lost| usable[lost].name));
        found.push(match most {
            Some(most) => finding.count("could_carry", most),
            None => finding,
        });
        return;
    }
}

/// Whose loss is worst: the largest share falls on the others, or the largest but one on the largest,
/// or the most room is lost. Where one is left, it is its load that counts, and nobody's loss.
fn candidates(usable: &[&BackendFacts<'_>]) -> Vec<Option<usize>> {
    if usable.len() < 2 {
        return vec![None];
    }
    let mut order: Vec<_> = (0..usable.len()).filter(|index| !usable[*index].is_backup).collect();
    order.sort_by_key(|index| std::cmp::Reverse(usable[*index].weight));
    let mut worst: Vec<_> = order.iter().copied().take(2).collect();
    worst.extend(order.iter().copied().max_by_key(|index| usable[*index].max_connections));
    worst.dedup();
    if worst.is_empty() {
        return (0..usable.len().min(2)).map(Some).collect();
    }
    worst.into_iter().map(Some).collect()
}

/// Who carries the service without the one at `lost`: primaries, and spares where these are too few.
fn left(usable: &[&BackendFacts<'_>], lost: Option<usize>, min_active: usize) -> Vec<Carrier> {
    let stays = usable.iter().enumerate().filter(|(index, _)| Some(*index) != lost);
    let primaries = stays.clone().filter(|(_, backend)| !backend.is_backup).count();
    let spares = primaries < min_active;
    let carriers = stays.map(|(_, backend)| backend).filter(|backend| spares || !backend.is_backup);
    let weights: f64 = carriers.clone().map(|backend| f64::from(backend.weight)).sum();
    carriers
        .map(|backend| Carrier {
            share: f64::from(backend.weight) / weights.max(1.0),
            noise: 0.0,
            max_connections: backend.max_connections.map(u64::from),
            limit: backend
                .capacity
                .map(|most| Limit { connections: most.into(), by: LimitedBy::Capacity }),
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "connections are far below 2^52")]
const fn real(count: u64) -> f64 {
    count as f64
}
