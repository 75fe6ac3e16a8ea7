//! What other edges learn of this one, and what is known of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    super::{
        Controller, Refused,
        windows::{Piece, SECONDS},
    },
    Fleet,
};
use crate::{
    alerts::facts::StoreFacts,
    api::model::{Edge, Fleet as FleetStatus, StoreStatus},
    config::Service,
    health::Health,
    plan::Index,
    store::{AlertReport, EdgeSeen, MOST_TOLD, Report, ServiceReport, State, disagreements},
};

/// Time between two looks at what there is to tell, and between two reports where only shares have changed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
const BETWEEN_SHARES: Duration = Duration::from_mins(1);
/// Alerts that are told.
const MOST_ALERTS: usize = 100;

impl Fleet {
    /// What may be wrong with the store and the other edges.
    pub(in super::super) fn facts<'a>(&'a self, state: &'a State) -> StoreFacts<'a> {
        let number = |revision: i64| u64::try_from(revision).unwrap_or_default();
        let newest = state.seen.as_ref().map_or(0, |seen| seen.revision());
        let others = state.edges.values().filter(|seen| seen.report.name != self.store.edge());
        let (alive, lost): (Vec<_>, Vec<_>) = others.partition(|seen| seen.alive);
        let behind = alive.into_iter().filter(|seen| seen.report.revision < newest);
        let why = |seen: &EdgeSeen| match &seen.report.refused {
            Some(refused) => refused.why.clone(),
            None => format!("it is at revision {}", seen.report.revision),
        };
        StoreFacts {
            connected: state.member.is_some(),
            problem: state.problem.clone().unwrap_or_default(),
            revision: number(self.kept.revision),
            refused: self.refused().map(|refused| (number(refused.revision), &*refused.why)),
            lost: lost.into_iter().map(|seen| &*seen.report.name).collect(),
            behind: behind.map(|seen| (&*seen.report.name, why(seen))).collect(),
        }
    }
}

impl Controller {
    /// Tells the other edges how this one is, where that is news.
    pub(in super::super) fn tell_fleet(&mut self, now: Instant) {
        let Some(fleet) = &self.fleet else { return };
        let report = self.fleet_report();
        let is_old = fleet.told_at.is_none_or(|at| now >= at + BETWEEN_SHARES);
        let is_news = report.differs_from(&fleet.told);
        if !is_news && !is_old {
            return;
        }
        let Some(fleet) = &mut self.fleet else { return };
        fleet.told_at = Some(now);
        fleet.told.clone_from(&report);
        fleet.store.tell(report);
    }

    /// The same, now and then: it takes a while with many backends.
    pub(in super::super) fn tell_fleet_soon(&mut self, now: Instant) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.looked_at.is_some_and(|at| now < at + BETWEEN_LOOKS) {
            return;
        }
        fleet.looked_at = Some(now);
        self.tell_fleet(now);
        self.tidy_store();
    }

    fn fleet_report(&self) -> Report {
        let Some(fleet) = &self.fleet else { return Report::default() };
        let held = self.applier.held().index();
        let [_, minute, _] = self.windows.totals();
        let services = self.loaded.config.services.iter();
        let mut alerts = self.raised();
        alerts.truncate(MOST_ALERTS);
        let told = |alert: crate::api::model::Alert| AlertReport {
            id: alert.id,
            severity: alert.severity,
            summary: alert.summary,
        };
        Report {
            name: fleet.store.edge().to_owned(),
            id: fleet.kept.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: fleet.kept.revision,
            refused: fleet.refused.clone(),
            at: humantime::format_rfc3339_seconds(self.clock.now()).to_string(),
            services: services
                .map(|service| self.service_report(service, &held, &minute))
                .collect(),
            alerts: alerts.into_iter().map(told).collect(),
        }
    }

    fn service_report(&self, service: &Service, held: &Index<'_>, minute: &Piece) -> ServiceReport {
        let backends = service.backends.iter();
        let id = |name: &str| held.backend(&service.name, name).map(|(id, _)| id);
        let is_active =
            |name: &str| held.backend(&service.name, name).is_some_and(|(_, entry)| entry.active);
        let is_down = |backend: &&crate::config::Backend| {
            self.condition.health(service, backend) == Health::Down
        };
        let down = backends.clone().filter(is_down).take(MOST_TOLD);
        let ids: Vec<_> = backends.clone().map(|b| (b.name.as_str(), id(&b.name))).collect();
        let window = minute.window(SECONDS[1], &ids);
        let shares: BTreeMap<_, _> = if window.connections > 0 && ids.len() <= MOST_TOLD {
            window.backends.into_iter().map(|backend| (backend.name, backend.share)).collect()
        } else {
            BTreeMap::new()
        };
        ServiceReport {
            name: service.name.clone(),
            active: backends.clone().filter(|backend| is_active(&backend.name)).count(),
            backends: backends.len(),
            down: down.map(|backend| backend.name.clone()).collect(),
            index: window.index,
            connections: window.connections,
            shares,
        }
    }

    /// How it is with the store; `None`: there is none.
    pub(in super::super) fn store_status(&self) -> Option<StoreStatus> {
        let fleet = self.fleet.as_ref()?;
        let (settings, state) = (fleet.store.settings(), fleet.store.state());
        Some(StoreStatus {
            kind: settings.kind.to_string(),
            endpoints: settings.endpoints.clone(),
            prefix: settings.prefix.clone(),
            edge: fleet.store.edge().to_owned(),
            revision: fleet.kept.revision,
            newest: state.seen.as_ref().map_or(0, |seen| seen.revision()),
            connected: state.member.is_some(),
            member: state.member,
            since: humantime::format_rfc3339_seconds(state.since).to_string(),
            problem: state.problem,
            refused: fleet.refused.clone(),
        })
    }

    /// How every edge is.
    pub(super) fn show_fleet(&self) -> Result<FleetStatus, Refused> {
        let fleet = self.shared()?;
        let mut edges = (*fleet.store.state().edges).clone();
        // What is known here of this edge is newer than what the store has of it.
        let own = edges.entry(fleet.store.edge().to_owned()).or_default();
        own.report = self.fleet_report();
        own.alive = true;
        let disagreements = disagreements(edges.values());
        let Some(store) = self.store_status() else {
            return Err(Refused::Absent("there is no store".to_owned()));
        };
        let edge = |seen: EdgeSeen| Edge {
            here: seen.report.name == fleet.store.edge(),
            alive: seen.alive,
            behind: seen.report.revision < store.newest,
            report: seen.report,
        };
        let edges = edges.into_values().map(edge).collect();
        Ok(FleetStatus { store, edges, disagreements })
    }
}
