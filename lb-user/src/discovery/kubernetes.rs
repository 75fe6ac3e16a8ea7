//! Kubernetes: the `EndpointSlices` of a service, listed and then watched by `kube`'s watcher.
//!
//! After anything that goes wrong everything is listed anew: what is told is always all that there is. A watch that is
//! silent is asked for anew once a minute, so that a connection that died without a word does not go unnoticed.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Answer, Pauses, Reporter, Spec,
    slices::{self, Slice},
};
use crate::config::Discovery;

/// The label by which a slice says whose it is.
const LABEL: &str = "kubernetes.io/service-name";
/// How long a watch may be silent, in seconds.
const SILENCE: u32 = 60;
/// What changes together is told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// What changed is told once more if it still is so then.
const AGAIN: Duration = Duration::from_secs(5);

/// Whose slices are asked for.
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a str,
    pub(super) service: &'a str,
    /// The port that is meant.
    pub(super) port: Option<&'a str>,
}

/// When the next answer is to be told, if any is.
struct Due(Option<Instant>);

impl Due {
    /// No later than this: what waits to be told once more does not hold up what is new.
    fn by(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |due| due.min(at)));
    }

    async fn passed(&self) {
        match self.0 {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

/// Watches until nobody listens.
pub(super) async fn follow(wanted: Wanted<'_>, spec: &Spec, reporter: Reporter) {
    let mut pauses = Pauses::new();
    loop {
        let why = match client(&spec.settings).await {
            Ok(client) => watch(client, &wanted, spec, &reporter, &mut pauses).await,
            Err(why) => Some(why),
        };
        let Some(why) = why else { return };
        if !reporter.tell(Err(why)).await {
            return;
        }
        sleep(pauses.next()).await;
    }
}

async fn client(settings: &Discovery) -> Result<Client, String> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let told =
                |error: &dyn std::error::Error| format!("{}: {}", path.display(), chain(error));
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| told(&error))?
        }
        None => Config::infer().await.map_err(|error| {
            format!(
                "nothing says how Kubernetes is reached: {}; set kubeconfig in [discovery]",
                chain(&error)
            )
        })?,
    };
    // What goes wrong shall be told, and the pauses are ours.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| chain(&error))
}

/// Tells what there is until something goes wrong, and what that is; `None`: nobody listens.
async fn watch(
    client: Client,
    wanted: &Wanted<'_>,
    spec: &Spec,
    reporter: &Reporter,
    pauses: &mut Pauses,
) -> Option<String> {
    let Wanted { namespace, service, .. } = *wanted;
    let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
    let asked = watcher::Config::default().labels(&format!("{LABEL}={service}")).timeout(SILENCE);
    let mut events = Box::pin(watcher(api, asked));
    let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
    let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
    let mut due = Due(None);
    let mut told = None;
    loop {
        tokio::select! {
            event = events.next() => {
                match event? {
                    // Half of a list says nothing.
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(slice)) => drop(listed.insert(name(&slice), Slice::from(slice))),
                    Ok(Event::InitDone) => {
                        known = std::mem::take(&mut listed);
                        *pauses = Pauses::new();
                        due.by(Instant::now());
                    }
                    Ok(Event::Apply(slice)) => {
                        known.insert(name(&slice), Slice::from(slice));
                        due.by(Instant::now() + TOGETHER);
                    }
                    Ok(Event::Delete(slice)) => {
                        known.remove(&name(&slice));
                        due.by(Instant::now() + TOGETHER);
                    }
                    Err(error) => return Some(chain(&error)),
                }
            }
            () = due.passed() => {
                let answer = answer(&known, wanted, spec);
                due = Due((told.as_ref() != Some(&answer)).then(|| Instant::now() + AGAIN));
                told = Some(answer.clone());
                if !reporter.tell(answer).await {
                    return None;
                }
            }
        }
    }
}

fn answer(
    known: &BTreeMap<String, Slice>,
    wanted: &Wanted<'_>,
    spec: &Spec,
) -> Result<Answer, String> {
    let Wanted { namespace, service, port } = *wanted;
    if known.is_empty() {
        return Err(format!(
            "no EndpointSlice in the namespace {namespace} is of a service {service}"
        ));
    }
    let slices: Vec<Slice> = known.values().cloned().collect();
    let found = slices::servers(&slices, port, spec.protocol)?;
    Ok(Answer { found, lacks: None })
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_does_not_wait_for_what_is_told_again() {
        let (now, mut due) = (Instant::now(), Due(None));
        due.by(now + AGAIN);
        due.by(now + TOGETHER);
        assert_eq!(due.0, Some(now + TOGETHER));
        due.by(now + AGAIN);
        assert_eq!(due.0, Some(now + TOGETHER));
    }
}
