//! The words of agents: noted, and told where they change something. What they bring about is decided in
//! `condition`.

use tracing::debug;

use super::{Controller, probes::BackendKey};
use crate::{
    events::{Kind, Note},
    health::{AgentChange, AgentState},
};

impl Controller {
    /// Notes what an agent said.
    pub(super) fn note_agent(&mut self, change: AgentChange<BackendKey>) {
        let AgentChange { key, state } = change;
        if !self.agents_wanted.contains(&key) {
            return;
        }
        let (service, backend) = (&key.0, &key.1);
        let wants = |state: &AgentState| state.report.as_ref().map(|report| report.wants);
        let before = self.condition.agents.get(&key);
        match before {
            // How busy it is changes all the time.
            Some(known)
                if wants(known) == wants(&state)
                    && known.trouble.is_none()
                    && state.trouble.is_none() =>
            {
                debug!(service, backend, "agent says: {state}");
            }
            _ => {
                let note = Note::new(Kind::Agent, format!("agent says: {state}"));
                let note = note.backend(service, backend);
                let silent = state.trouble.clone();
                self.events.tell(match silent {
                    Some(trouble) => note.because(trouble).warning(),
                    None => note,
                });
            }
        }
        self.told.doubt(service);
        self.condition.agents.insert(key, state);
    }
}
