//! Keeps the program attached while the daemon runs: to an interface that was deleted and made again, to
//! one that was renamed, and against strangers.
//!
//! Events of the kernel say when to look; what is done follows from what is there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, anyhow};
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use super::{
    attach::{Attachments, Finding},
    devices::{self, Device},
};
use crate::events::{self, Kind, Level, Note};

/// Looks are this far apart at the most, whatever events tell.
const EVERY: Duration = Duration::from_secs(3);
/// What could not be done is tried again after this time, however many events come.
const REST: Duration = Duration::from_secs(1);

/// How it stands with an interface of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name in the configuration.
    pub name: String,
    /// The index of the device that it is; zero while there is none.
    pub index: u32,
    /// How the program is attached: `native`, `generic`, or `none`.
    pub mode: &'static str,
    /// What is wrong with it, and what follows.
    pub problem: Option<String>,
}

/// The state of the interfaces, in the order of the configuration; new ones are told of. Keeping ends
/// when it is dropped.
pub type Interfaces = watch::Receiver<Vec<Attachment>>;

/// Something that happened to a device.
type Events = BoxStream<'static, ()>;

impl Attachments {
    /// Keeps them, in the network namespace of the runtime's threads, and notes what is lost and found. The
    /// first states are there when it returns.
    pub async fn keep(mut self, noted: events::Events) -> Interfaces {
        let mut seen = Seen { indices: BTreeMap::new(), problems: BTreeMap::new(), noted };
        let events = subscribe();
        let states = match self.look(&mut seen).await {
            Ok(look) => look.states,
            Err(error) => {
                warn!("cannot look at the interfaces: {error:#}");
                Vec::new()
            }
        };
        let (sender, told) = watch::channel(states);
        tokio::spawn(run(self, seen, events, sender));
        told
    }

    /// Looks at every interface, does what it needs, and tells how it stands then.
    async fn look(&mut self, seen: &mut Seen) -> Result<Look> {
        let mut devices = devices::all().await?;
        let mut findings = self.findings(&devices);
        let (mut failures, mut changed) = (BTreeMap::new(), false);
        for (interface, finding) in &findings {
            let done = match finding {
                Ok(finding) => self.mend(interface, finding),
                Err(error) => Err(anyhow!("{error:#}")),
            };
            if let Err(error) = done {
                failures.insert(interface.clone(), format!("is not attached: {error:#}"));
            } else if let Ok(Finding::Bare(index)) = finding {
                seen.tell_attached(interface, *index);
                changed = true;
            }
        }
        if changed {
            devices = devices::all().await?;
            findings = self.findings(&devices);
        }
        let interfaces = self.interfaces.iter();
        let states: Vec<_> =
            interfaces.map(|name| state(name, &findings, &failures, &devices)).collect();
        seen.note(&states, &devices);
        Ok(Look { states, failed: !failures.is_empty() })
    }
}

/// What a look found.
struct Look {
    states: Vec<Attachment>,
    /// Whether something could not be done.
    failed: bool,
}

/// What was last seen and said.
struct Seen {
    indices: BTreeMap<String, u32>,
    problems: BTreeMap<String, String>,
    noted: events::Events,
}

impl Seen {
    fn say(&self, interface: &str, is_trouble: bool, message: &str) {
        let level = if is_trouble { Level::Warning } else { Level::Info };
        let message = format!("{interface}: {message}");
        self.noted.tell(Note::new(Kind::Interface, message).at(level));
    }

    fn tell_attached(&self, interface: &str, index: u32) {
        if self.indices.get(interface) == Some(&index) {
            self.say(interface, true, "somebody detached the program; it is attached again");
        } else {
            self.say(interface, false, "the interface is there again, as a new device; attached");
        }
    }

    fn note(&mut self, states: &[Attachment], devices: &[Device]) {
        for Attachment { name, problem, .. } in states {
            if let Some(device) = devices.iter().find(|device| device.name == *name) {
                self.indices.insert(name.clone(), device.index);
            }
            match (problem, self.problems.get(name)) {
                (Some(problem), said) if said != Some(problem) => {
                    self.say(name, true, &format!("the interface {problem}"));
                    self.problems.insert(name.clone(), problem.clone());
                }
                (None, Some(_)) => {
                    self.say(name, false, "the interface is in order again");
                    self.problems.remove(name);
                }
                _ => {}
            }
        }
    }
}

fn state(
    name: &str,
    findings: &BTreeMap<String, Result<Finding>>,
    failures: &BTreeMap<String, String>,
    devices: &[Device],
) -> Attachment {
    let finding = findings.get(name).and_then(|finding| finding.as_ref().ok());
    let called = match finding {
        Some(Finding::Renamed(now)) => now,
        _ => name,
    };
    let device = devices.iter().find(|device| device.name == called);
    let problem = match finding {
        Some(Finding::Missing) => Some(
            "does not exist any more; the program is attached to it as soon as it is there again"
                .to_owned(),
        ),
        Some(Finding::Renamed(now)) => Some(format!(
            "is called {now} now; its traffic is balanced as before. Rename it back, or write {now} \
             into [node] interfaces and restart the daemon"
        )),
        _ => failures.get(name).cloned(),
    };
    let (index, mode) = device.map_or((0, "none"), |device| (device.index, device.mode));
    Attachment { name: name.to_owned(), index, mode, problem }
}

async fn run(
    mut attachments: Attachments,
    mut seen: Seen,
    mut events: Option<Events>,
    states: watch::Sender<Vec<Attachment>>,
) {
    loop {
        tokio::select! {
            () = states.closed() => return,
            () = happened(&mut events) => {}
            () = sleep(EVERY) => {}
        }
        // Before the look: what happens after it is then told.
        events = events.or_else(subscribe);
        let mut failed = true;
        match attachments.look(&mut seen).await {
            Ok(look) => {
                failed = look.failed;
                states.send_if_modified(|told| {
                    let changed = *told != look.states;
                    *told = look.states;
                    changed
                });
            }
            Err(error) => warn!("cannot look at the interfaces: {error:#}"),
        }
        if failed {
            // An attempt may make events of its own.
            sleep(REST).await;
        }
    }
}

/// Waits for the next event, and takes those that came with it.
async fn happened(events: &mut Option<Events>) {
    let Some(stream) = events else { return std::future::pending().await };
    let mut next = stream.next().await;
    while next.is_some() {
        match stream.next().now_or_never() {
            Some(more) => next = more,
            None => return,
        }
    }
    // It ended; the next look subscribes anew.
    *events = None;
}

/// Subscribes to what happens to devices; without it they are looked at every few seconds.
fn subscribe() -> Option<Events> {
    match new_multicast_connection(&[MulticastGroup::Link]) {
        Ok((connection, _handle, events)) => {
            tokio::spawn(connection);
            Some(events.map(drop).boxed())
        }
        Err(error) => {
            warn!("cannot listen for changes of the interfaces: {error}");
            None
        }
    }
}
