//! The task that keeps talking to etcd, one member after the other, and the handle by which others see what it
//! knows and have it write.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    fleet::{EdgeSeen, Report},
    session::{LIFE, Session, View, plain},
    shared::{Bases, Keys, Record, Snapshot},
};
use crate::{admin::Exception, config};

/// How often all is read without a reason: a watch that is lost without a word costs no more than that.
const READ_EVERY: Duration = Duration::from_secs(10);
/// How long the task waits once no member answers.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be written, whole.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What it is a change of: it is written if nobody else has written meanwhile.
    pub bases: Bases,
    /// The services, as TOML.
    pub services: String,
    /// Who is taken out.
    pub exceptions: Vec<Exception>,
    /// Who changes what.
    pub record: Record,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Somebody else wrote in between.
    #[error("somebody else changed the store at the same time; try again")]
    Conflict,
    /// It was not written.
    #[error("the store cannot be written, nothing was changed: {0}")]
    Unavailable(String),
    /// Nobody knows.
    #[error(
        "the store did not say whether it has taken the change ({0}); `evenkeel store status` shows what \
         it has once it answers"
    )]
    Unknown(String),
}

/// How it is with the store.
#[derive(Clone, Debug)]
pub struct State {
    /// The member that answers; `None`: none does.
    pub member: Option<String>,
    /// Why none does, each member with its error; or why this edge is not told of among the others.
    pub problem: Option<String>,
    /// Since when.
    pub since: SystemTime,
    /// What is shared, as it was last read; `None`: it never was.
    pub seen: Option<Arc<Snapshot>>,
    /// The edges, as they were last read, by their names.
    pub edges: Arc<BTreeMap<String, EdgeSeen>>,
}

/// Which way a difference between an edge and the store is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The edge takes what the store has.
    Pull,
    /// The store takes what the edge has.
    Push,
}

enum Request {
    Write(Box<Proposal>, oneshot::Sender<Result<Option<i64>>>),
    Forget(String, oneshot::Sender<Result<bool>>),
    Leave(oneshot::Sender<()>),
}

/// A handle on the task.
#[derive(Clone)]
pub struct Store {
    settings: Arc<config::Store>,
    keys: Arc<Keys>,
    edge: Arc<str>,
    state: watch::Receiver<State>,
    requests: mpsc::Sender<Request>,
    report: Arc<watch::Sender<Report>>,
}

impl Store {
    /// Starts to talk to etcd; `id` tells this edge from another one of its name. Must be called inside a
    /// runtime.
    #[must_use]
    pub fn start(settings: config::Store, id: String) -> Self {
        let (tell, state) = watch::channel(State {
            member: None,
            problem: None,
            since: SystemTime::now(),
            seen: None,
            edges: Arc::default(),
        });
        let (requests, asked) = mpsc::channel(16);
        let edge: Arc<str> = settings.edge().into();
        let report = Report { name: edge.to_string(), id: id.clone(), ..Report::default() };
        let (report, reports) = watch::channel(report);
        let settings = Arc::new(settings);
        let keys = Arc::new(Keys::new(&settings.prefix));
        let (own, edge_name) = (Arc::clone(&settings), Arc::clone(&edge));
        let own_keys = Arc::clone(&keys);
        tokio::spawn(async move {
            let (keys, settings) = (&*own_keys, &*own);
            let task = Task { settings, keys, edge: &edge_name, id: &id, tell, asked, reports };
            // On the heap: the conversation holds whole requests.
            Box::pin(task.run()).await;
        });
        Self { settings, keys, edge, state, requests, report: Arc::new(report) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &config::Store {
        &self.settings
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// This edge's name.
    #[must_use]
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// How it is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// How it is, for whoever waits for changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Tells the others how this edge is.
    pub fn tell(&self, report: Report) {
        self.report.send_replace(report);
    }

    /// Writes what is proposed. Returns its revision. Where a member fails meanwhile, the next one is asked: a
    /// proposal cannot be taken twice, for the first time changes what it is compared with.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn write(&self, proposal: Proposal) -> Result<i64, Failure> {
        let deadline = Instant::now() + self.settings.timeout * 2;
        let mut changes = self.watch();
        let mut failed = None;
        loop {
            let answers = changes.wait_for(|state| state.member.is_some());
            // Closed, it will not answer any more: the daemon ends.
            if !matches!(timeout_at(deadline, answers).await, Ok(Ok(_))) {
                return Err(
                    failed.map_or_else(|| Failure::Unavailable(self.why_not()), Failure::Unknown)
                );
            }
            let asked = proposal.clone();
            match self.ask(|reply| Request::Write(Box::new(asked), reply)).await {
                Ok(Ok(Some(revision))) => return Ok(revision),
                Ok(Ok(None)) if failed.is_none() => return Err(Failure::Conflict),
                // It may be the first attempt that came in between.
                Ok(Ok(None)) => {
                    return self.is_taken(&proposal, deadline).await.ok_or(Failure::Conflict);
                }
                Ok(Err(error)) => failed = Some(format!("{error:#}")),
                Err(why) => failed = Some(why),
            }
            // The task has to see that the member is gone.
            drop(timeout_at(deadline, changes.changed()).await);
        }
    }

    /// The revision of a proposal, if it is the last change, by what is read next.
    async fn is_taken(&self, proposal: &Proposal, deadline: Instant) -> Option<i64> {
        let before = self.state().seen;
        let mut changes = self.watch();
        let is_news = |state: &State| match (&state.seen, &before) {
            (Some(seen), Some(before)) => !Arc::ptr_eq(seen, before),
            (seen, _) => seen.is_some(),
        };
        let is_ours = |seen: &Snapshot| {
            seen.change.as_ref().is_some_and(|change| change.id == proposal.record.id)
        };
        if let Some(seen) = before.as_ref().filter(|seen| is_ours(seen)) {
            return Some(seen.revision());
        }
        let state = timeout_at(deadline, changes.wait_for(is_news)).await.ok()?.ok()?;
        let seen = state.seen.as_ref()?;
        is_ours(seen).then(|| seen.revision())
    }

    /// Forgets an edge. Returns whether it was known.
    ///
    /// # Errors
    ///
    /// Where the store cannot be written.
    pub async fn forget(&self, edge: &str) -> Result<bool> {
        match self.ask(|reply| Request::Forget(edge.to_owned(), reply)).await {
            Ok(answer) => answer,
            Err(why) => bail!("{why}"),
        }
    }

    /// Says that this edge goes.
    pub async fn leave(&self) {
        if self.state.borrow().member.is_some() {
            drop(self.ask(Request::Leave).await);
        }
    }

    /// Why no member answers.
    #[must_use]
    pub fn why_not(&self) -> String {
        let problem = self.state.borrow().problem.clone();
        problem.unwrap_or_else(|| "no member of etcd has answered yet".to_owned())
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, String> {
        // The one that is asked, and the next after it.
        let limit = self.settings.timeout * 2;
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.requests.send(request(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(limit, asking).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.why_not()),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
        }
    }
}

struct Task<'a> {
    settings: &'a config::Store,
    keys: &'a Keys,
    edge: &'a str,
    id: &'a str,
    tell: watch::Sender<State>,
    asked: mpsc::Receiver<Request>,
    reports: watch::Receiver<Report>,
}

/// Nobody is interested any more.
struct Over;

impl Task<'_> {
    async fn run(mut self) {
        let mut errors: BTreeMap<&str, String> = BTreeMap::new();
        let endpoints = &self.settings.endpoints;
        for endpoint in endpoints.iter().cycle() {
            match Box::pin(self.talk(endpoint)).await {
                Ok(Over) => return,
                Err((had_answered, error)) => {
                    if had_answered {
                        warn!(endpoint, "lost the store: {error:#}");
                        errors.clear();
                    }
                    errors.insert(endpoint, format!("{error:#}"));
                }
            }
            let told: Vec<_> =
                errors.iter().map(|(endpoint, error)| format!("{endpoint}: {error}")).collect();
            self.note_lost(told.join("; "));
            if errors.len() == endpoints.len() {
                errors.clear();
                sleep(PAUSE).await;
            }
        }
    }

    fn note_lost(&self, problem: String) {
        self.tell.send_modify(|state| {
            if state.member.take().is_some() {
                state.since = SystemTime::now();
            }
            state.problem = Some(problem);
        });
    }

    fn note(&self, endpoint: &str, view: &View, problem: Option<&String>) {
        self.tell.send_modify(|state| {
            if state.member.is_none() {
                state.since = SystemTime::now();
            }
            if state.member.as_deref() != Some(endpoint) {
                info!(endpoint, revision = view.snapshot.revision(), "the store answers");
                state.member = Some(endpoint.to_owned());
            }
            state.problem = problem.cloned();
            if state.seen.as_deref() != Some(&view.snapshot) {
                state.seen = Some(Arc::new(view.snapshot.clone()));
            }
            if *state.edges != view.edges {
                state.edges = Arc::new(view.edges.clone());
            }
        });
    }

    /// Talks to one member for as long as it answers. The error says whether it did at all.
    async fn talk(&mut self, endpoint: &str) -> Result<Over, (bool, anyhow::Error)> {
        let names = (self.edge, self.id);
        let opened = Session::open(endpoint, self.settings, self.keys, names).await;
        let mut session = opened.map_err(|error| (false, error))?;
        let first = session.read().await.map_err(|error| (false, error))?;
        self.converse(endpoint, &mut session, first).await.map_err(|error| (true, error))
    }

    async fn converse(
        &mut self,
        endpoint: &str,
        session: &mut Session<'_>,
        first: View,
    ) -> Result<Over> {
        let mut changes = session.watch(&first).await?;
        let mut problem = session.register(&first).await?;
        self.note(endpoint, &first, problem.as_ref());
        let mut beat = interval(LIFE / 4);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_read = Instant::now() + READ_EVERY;
        self.reports.mark_changed();
        loop {
            let mut read = false;
            tokio::select! {
                change = changes.message() => match change.map_err(plain)? {
                    // A watch of a revision that is compacted already ends like this, too.
                    Some(change) if change.canceled() => bail!("the watch ended: {}", change.cancel_reason()),
                    Some(change) => read = !change.created(),
                    None => bail!("the watch ended"),
                },
                () = tokio::time::sleep_until(next_read) => read = true,
                _ = beat.tick() => session.stay().await?,
                told = self.reports.changed() => {
                    if told.is_err() {
                        return Ok(Over);
                    }
                    if session.is_registered() {
                        let report = self.reports.borrow_and_update().clone();
                        session.report(&report).await?;
                    }
                }
                request = self.asked.recv() => match request {
                    None => return Ok(Over),
                    Some(Request::Write(proposal, reply)) => {
                        let written = session.write(&proposal).await;
                        let failed = written.is_err();
                        drop(reply.send(written));
                        if failed {
                            bail!("it did not take a change");
                        }
                        read = true;
                    }
                    Some(Request::Forget(edge, reply)) => {
                        drop(reply.send(session.forget(&edge).await));
                    }
                    Some(Request::Leave(reply)) => {
                        session.leave().await?;
                        let _ = reply.send(());
                        return Ok(Over);
                    }
                },
            }
            if read {
                let view = session.read().await?;
                let had = session.is_registered();
                problem = session.register(&view).await?;
                if !had && session.is_registered() {
                    self.reports.mark_changed();
                }
                self.note(endpoint, &view, problem.as_ref());
                next_read = Instant::now() + READ_EVERY;
            }
        }
    }
}
