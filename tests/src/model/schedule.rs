//! Which backend a new connection gets (DESIGN.md 4, "The ring is the scheduler, compiled").

use super::{
    Flow, Model, Stop, hash,
    world::{Ring, Scheduler, Service},
};

/// Slots that are tried before every member is looked at in turn.
const TRIES: u32 = 4;

/// The verdict of a program that chose a backend which it may not choose.
pub const NOT_ALLOWED: &str = "(a backend that may not be chosen)";

impl Model {
    /// The backend of a client's next connection; not `avoid`, where another one has room. Which one
    /// a random scheduler takes is `chosen`: here it is only held against what it may be.
    pub(super) fn pick(
        &mut self,
        id: u32,
        service: &Service,
        flow: &Flow,
        avoid: Option<u32>,
        chosen: Option<u32>,
    ) -> Result<u32, Stop> {
        let Ring { slots, members } = self.rings.get(&id).cloned().unwrap_or_default();
        if slots.is_empty() {
            return Err(Stop::NoBackend);
        }
        let fits = |model: &Self, backend: u32| Some(backend) != avoid && model.has_room(backend);
        if let Some(kept) = self.kept(id, service, flow)
            && fits(self, kept)
        {
            return Ok(kept);
        }
        let hash = match service.scheduler {
            Scheduler::Maglev => hash::flow(flow),
            Scheduler::SourceHash => hash::client(flow.source.ip()),
            _ => 0,
        };
        let at = |turn: u64| slots[usize::try_from(turn % slots.len() as u64).unwrap_or_default()];
        match service.scheduler {
            Scheduler::RoundRobin => {
                for _ in 0..TRIES {
                    let cursor = self.cursors.entry(id).or_default();
                    let backend = at(*cursor);
                    *cursor += 1;
                    if fits(self, backend) {
                        return Ok(backend);
                    }
                }
            }
            Scheduler::Maglev | Scheduler::SourceHash => {
                let turns = (0..TRIES).map(|attempt| u64::from(hash::again(hash, attempt)));
                if let Some(backend) = turns.map(at).find(|backend| fits(self, *backend)) {
                    return Ok(backend);
                }
            }
            Scheduler::Random | Scheduler::LeastConnections => {
                let allowed: Vec<u32> =
                    members.iter().copied().filter(|member| fits(self, *member)).collect();
                if !allowed.is_empty() {
                    // It chose none that came to anything: then it is the same, which.
                    let chosen = chosen.unwrap_or(allowed[0]);
                    let is_allowed = allowed.contains(&chosen);
                    return is_allowed.then_some(chosen).ok_or(Stop::Verdict(NOT_ALLOWED));
                }
            }
        }
        let count = members.len() as u64;
        let mut in_turn = (0..count).map(|turn| {
            members[usize::try_from((u64::from(hash) + turn) % count).unwrap_or_default()]
        });
        in_turn
            .find(|member| fits(self, *member))
            .or_else(|| avoid.filter(|avoid| self.has_room(*avoid)))
            .ok_or(Stop::Overload)
    }

    /// The backend that a client keeps (DESIGN.md 4, "Sticky clients").
    fn kept(&self, id: u32, service: &Service, flow: &Flow) -> Option<u32> {
        let time = service.sticky?;
        let (backend, seen) = self.affinities.get(&(id, flow.source.ip()))?;
        let known = self.backends.get(backend)?;
        let fresh = self.now.saturating_sub(*seen) <= time;
        (fresh && known.active && known.service == id).then_some(*backend)
    }

    /// Whether a backend takes one more connection.
    fn has_room(&self, backend: u32) -> bool {
        let Some(known) = self.backends.get(&backend) else { return false };
        let established = self.loads.get(&backend).map_or(0, |load| load.established);
        known.max_connections == 0 || established < u64::from(known.max_connections)
    }
}
