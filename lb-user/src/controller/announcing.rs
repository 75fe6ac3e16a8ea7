//! What this node announces: facts for the desk, orders for who carries them out, and what is told of it.

use std::{collections::BTreeMap, time::Instant};

use super::{Controller, Refused};
use crate::{
    announce::{Desk, Order, Turn, View},
    api::model::{Announcement, Fitness},
    config::Service,
    events::{Kind, Note},
};

/// Resolves when an announcement is to be made, or withdrawn, if all stays as it is. Looks may come late.
pub(super) async fn due(desk: &Desk) {
    match desk.due() {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Controller {
    /// Has addresses announced or withdrawn, as what is known asks for it.
    pub(super) fn announce(&mut self, now: Instant) {
        // Out of the way, for the view borrows the rest.
        let mut desk = std::mem::take(&mut self.announced);
        let turns = desk.note(&self.loaded.config, &self.view(), self.announcer.left(), now);
        self.announced = desk;
        self.announcer.order(self.announced.orders());
        for turn in turns {
            self.events.tell(event(&turn));
        }
    }

    fn view(&self) -> View<'_> {
        let mut active = BTreeMap::new();
        let held = self.applier.held().backends.values();
        for entry in held.filter(|entry| entry.live && entry.active) {
            *active.entry(entry.service.as_str()).or_insert(0) += 1;
        }
        let drain = self.condition.exceptions.node.as_ref();
        View {
            unwanted: drain.map(|drain| format!("this node is drained: {}", drain.reason)),
            problems: self.readiness(),
            active,
        }
    }

    /// Every address that is to be announced.
    pub(super) fn announcements(&self) -> Vec<Announcement> {
        let of = |order: &Order| {
            let carried = self.announcer.carried(order.address);
            let since = self.announced.since(order.address).unwrap_or(self.started);
            Announcement {
                address: order.address.to_string(),
                way: order.announce.way,
                by: order.announce.to_string(),
                services: order.services.clone(),
                wanted: order.announced,
                announced: carried.announced,
                why: order.why.clone(),
                seconds: since.elapsed().as_secs(),
                problem: carried.problem,
            }
        };
        self.announced.orders().iter().map(of).collect()
    }

    /// Whether traffic for a service may come to this node; none named: for any.
    ///
    /// # Errors
    ///
    /// Where there is no such service.
    pub(super) fn fitness(&self, service: Option<&str>) -> Result<Fitness, Refused> {
        let services = &self.loaded.config.services;
        let asked: Vec<&Service> = match service {
            None => services.iter().collect(),
            Some(name) => match self.loaded.config.service(name) {
                Some(found) => vec![found],
                None => return Err(Refused::NotFound(format!("there is no service {name:?}"))),
            },
        };
        let view = self.view();
        let short = |service: &&Service| {
            let own = service.announce.as_ref().and_then(|announce| announce.min_active);
            let least = own.unwrap_or(service.availability.min_active);
            let active = view.active.get(service.name.as_str()).copied().unwrap_or(0);
            let says = || format!("{} has {active} of {least} active backends", service.name);
            (active < least as usize).then(says)
        };
        let short: Vec<_> = asked.iter().filter_map(short).collect();
        let wrong = if let Some(why) = view.unwanted {
            Some(why)
        } else if !view.problems.is_empty() {
            Some(view.problems.join("; "))
        } else if asked.is_empty() {
            Some("no service is configured".to_owned())
        } else {
            (short.len() == asked.len()).then(|| short.join("; "))
        };
        let able = asked.len() - short.len();
        let word = if asked.len() == 1 { "service" } else { "services" };
        let why = wrong.clone();
        let why = why.unwrap_or_else(|| format!("{able} of {} {word} can be served", asked.len()));
        Ok(Fitness { well: wrong.is_none(), why })
    }
}

fn event(turn: &Turn) -> Note {
    let Turn { address, services, announced, why } = turn;
    let services = services.join(", ");
    let note = if *announced {
        Note::new(Kind::Announce, format!("{address} ({services}) is announced: {why}"))
    } else {
        Note::new(Kind::Withdraw, format!("{address} ({services}) is withdrawn: {why}")).warning()
    };
    let note = note.because(why);
    match turn.services.as_slice() {
        [only] => note.service(only),
        _ => note,
    }
}
