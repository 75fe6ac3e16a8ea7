//! Waiting for a backend: until it has no connection left, or gets new ones.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Until, Usage, output};
use crate::{
    admin::AdminState,
    api::{Client, model::Status},
};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A backend's name, with its service's in front where there is one.
pub fn split(text: &str) -> Result<(Option<String>, String)> {
    let (service, backend) = match text.split_once('/') {
        Some((service, backend)) => (Some(service), backend),
        None => (None, text),
    };
    if backend.is_empty() || backend.contains('/') || service.is_some_and(str::is_empty) {
        let problem = format!("{text:?} names no backend; write BACKEND, or SERVICE/BACKEND");
        return Err(Usage(problem).into());
    }
    Ok((service.map(str::to_owned), backend.to_owned()))
}

/// One of the backends that are waited for.
struct Seen {
    label: String,
    /// What it does; `None`: it is configured no longer.
    state: Option<String>,
    out: bool,
    active: bool,
    open: u64,
}

fn look(status: &Status, service: Option<&str>, backend: &str) -> Vec<Seen> {
    let fits = |name: &str| service.is_none_or(|wanted| wanted == name);
    let configured = status.services.iter().filter(|found| fits(&found.name)).flat_map(|found| {
        let backends = found.backends.iter().filter(|known| known.name == backend);
        backends.map(move |known| Seen {
            label: format!("{}/{}", found.name, known.name),
            state: Some(known.state.clone()),
            out: known.admin != AdminState::Ready,
            active: known.active,
            open: known.open,
        })
    });
    let removed = status.removed.iter().filter(|gone| gone.name == backend && fits(&gone.service));
    let removed = removed.map(|gone| Seen {
        label: format!("{}/{}", gone.service, gone.name),
        state: None,
        out: true,
        active: false,
        open: gone.open,
    });
    configured.chain(removed).collect()
}

impl Seen {
    fn is(&self, until: Until) -> bool {
        match until {
            Until::Drained => self.out && self.open == 0,
            Until::Active => self.active,
        }
    }

    fn tell(&self) -> String {
        let Self { label, state, open, .. } = self;
        let state = state.as_deref().unwrap_or("removed");
        let plural = if *open == 1 { "" } else { "s" };
        format!("{label} is {state}, {} connection{plural} open", output::count(*open))
    }
}

/// Waits for a backend, in every service that has it or in the one that is named.
pub async fn wait(client: &Client, name: &str, until: Until, timeout: Duration) -> Result<()> {
    let (service, backend) = split(name)?;
    let (deadline, mut progress) = (Instant::now() + timeout, Progress::default());
    let mut ever = false;
    loop {
        let status: Status = client.get("/v1/status").await?;
        let seen = look(&status, service.as_deref(), &backend);
        ever |= !seen.is_empty();
        if !ever {
            bail!("there is no backend {name:?}; `evenkeel backend list` names them");
        }
        if until == Until::Drained
            && let Some(ready) = seen.iter().find(|seen| !seen.out)
        {
            bail!(
                "{} is not taken out, so it will not drain; use `evenkeel backend drain` first",
                ready.label
            );
        }
        if until == Until::Active
            && (seen.is_empty() || seen.iter().any(|seen| seen.state.is_none()))
        {
            bail!("{name} is removed, so it will not get connections again");
        }
        let missing: Vec<_> = seen.iter().filter(|seen| !seen.is(until)).map(Seen::tell).collect();
        if missing.is_empty() {
            progress.end();
            let done = match until {
                Until::Drained => "drained",
                Until::Active => "active",
            };
            // A removed backend leaves the list with its last connection.
            return output::print(&format!("{name} is {done}\n"));
        }
        if Instant::now() >= deadline {
            progress.end();
            let timeout = humantime::format_duration(timeout);
            bail!("{} after {timeout}", missing.join("; "));
        }
        progress.show(&missing.join("; "));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where things stand: a line that changes on a terminal, a line a change elsewhere.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        let mut out = std::io::stderr().lock();
        // Nobody is to be stopped by a terminal that went away.
        let _ = if out.is_terminal() {
            write!(out, "\r\x1b[K{text}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{text}")
        };
        text.clone_into(&mut self.last);
    }

    fn end(&self) {
        let mut out = std::io::stderr().lock();
        if out.is_terminal() && !self.last.is_empty() {
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_a_backend_or_of_one_in_a_service() {
        assert_eq!(split("web-01").unwrap(), (None, "web-01".to_owned()));
        assert_eq!(split("web/web-01").unwrap(), (Some("web".to_owned()), "web-01".to_owned()));
        for wrong in ["", "/", "web/", "/web-01", "a/b/c"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
