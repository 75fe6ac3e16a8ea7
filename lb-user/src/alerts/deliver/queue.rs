//! What waits for a target: the newest state of each alert, in the order in which they first had to wait,
//! and never more than there is room for. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::api::model::Alert;

/// Alerts that wait at the most.
pub(super) const ROOM: usize = 1_000;

/// A queue of alerts, one an id.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Arc<Alert>>,
    places: HashMap<String, u64>,
    next: u64,
    room: usize,
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self { waiting: BTreeMap::new(), places: HashMap::new(), next: 0, room }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What waits, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.waiting.values()
    }

    /// Adds an alert, in the place of what waits under its id. Answers how many had to go for it: the oldest.
    pub(super) fn put(&mut self, alert: Arc<Alert>) -> u64 {
        let place = self.places.get(&alert.id).copied();
        let place = place.unwrap_or_else(|| {
            self.next += 1;
            self.places.insert(alert.id.clone(), self.next);
            self.next
        });
        self.waiting.insert(place, alert);
        let mut dropped = 0;
        while self.waiting.len() > self.room
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            self.places.remove(&oldest.id);
            dropped += 1;
        }
        dropped
    }

    /// Takes the oldest out, `most` of them.
    pub(super) fn take(&mut self, most: usize) -> Vec<Arc<Alert>> {
        let take = |_| self.waiting.pop_first().map(|(_, alert)| alert);
        let taken: Vec<_> = (0..most).map_while(take).collect();
        for alert in &taken {
            self.places.remove(&alert.id);
        }
        taken
    }

    /// Puts back what could not be delivered, before all others; what has a newer state meanwhile is
    /// forgotten. Answers how many had no room.
    pub(super) fn give_back(&mut self, taken: Vec<Arc<Alert>>) -> u64 {
        let mut later = std::mem::replace(self, Self::new(self.room));
        let later = later.take(usize::MAX);
        let newer: std::collections::HashSet<_> =
            later.iter().map(|alert| alert.id.clone()).collect();
        let old = taken.into_iter().filter(|alert| !newer.contains(&alert.id));
        let all: Vec<_> = old.chain(later).collect();
        all.into_iter().map(|alert| self.put(alert)).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::alerts::Severity;

    pub(crate) fn alert(id: &str, summary: &str) -> Arc<Alert> {
        Arc::new(Alert {
            id: id.to_owned(),
            kind: "drift".to_owned(),
            severity: Severity::Warning,
            service: None,
            backend: None,
            since: "2026-01-01T00:00:00Z".to_owned(),
            since_seconds: 1,
            cleared: None,
            summary: summary.to_owned(),
            evidence: BTreeMap::new(),
            page: "docs/playbook/drift.html".to_owned(),
        })
    }

    fn ids(alerts: &[Arc<Alert>]) -> Vec<(&str, &str)> {
        alerts.iter().map(|alert| (alert.id.as_str(), alert.summary.as_str())).collect()
    }

    #[test]
    fn the_newest_state_wins_and_keeps_its_place() {
        let mut queue = Queue::new(10);
        for (id, state) in [("a", "1"), ("b", "1"), ("a", "2")] {
            assert_eq!(queue.put(alert(id, state)), 0);
        }
        let taken = queue.take(5);
        assert_eq!(ids(&taken), [("a", "2"), ("b", "1")]);
        queue.put(alert("c", "1"));
        queue.put(alert("b", "2"));
        assert_eq!(queue.give_back(taken), 0);
        assert_eq!(ids(&queue.take(5)), [("a", "2"), ("c", "1"), ("b", "2")]);
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_nothing_is_lost_uncounted(
            puts in prop::collection::vec((0_u8..20, any::<bool>()), 0..200), room in 1_usize..10,
        ) {
            let mut queue = Queue::new(room);
            let (mut dropped, mut delivered, mut replaced) = (0, 0, 0);
            for (id, fails) in &puts {
                let id = id.to_string();
                replaced += u64::from(queue.places.contains_key(&id));
                dropped += queue.put(alert(&id, ""));
                prop_assert!(queue.len() <= room && queue.places.len() == queue.len());
                if *fails {
                    let taken = queue.take(2);
                    dropped += queue.give_back(taken);
                } else {
                    delivered += queue.take(1).len() as u64;
                }
            }
            let all = dropped + delivered + replaced + queue.len() as u64;
            prop_assert_eq!(all, puts.len() as u64);
        }
    }
}
