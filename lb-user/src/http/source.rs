//! What the controller says, asked once for all readers who come at about the same time.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    api::{
        Problem,
        model::{Alerts, Counters, Fleet, Status},
    },
    controller::{Command, FleetCommand},
};

/// For how long an answer is good.
const FRESH: Duration = Duration::from_millis(250);
/// How long the controller may take to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the controller says.
#[derive(Clone)]
pub struct Source {
    commands: mpsc::WeakSender<Command>,
    status: Kept<Status>,
    counters: Kept<Counters>,
}

/// An answer, and when it was given.
type Kept<T> = Arc<Mutex<Option<(Instant, Arc<T>)>>>;

impl Source {
    /// Asks by `commands`, which it does not keep open.
    #[must_use]
    pub fn new(commands: mpsc::WeakSender<Command>) -> Self {
        Self { commands, status: Kept::default(), counters: Kept::default() }
    }

    /// The state of everything, at most a quarter of a second old.
    ///
    /// # Errors
    ///
    /// Where the controller does not answer, or could not read the tables.
    pub async fn status(&self) -> Result<Arc<Status>, Problem> {
        self.kept(&self.status, Command::Status).await
    }

    /// The counters, as old at the most.
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub async fn counters(&self) -> Result<Arc<Counters>, Problem> {
        self.kept(&self.counters, Command::Counters).await
    }

    /// What is wrong, and what was lately.
    ///
    /// # Errors
    ///
    /// Where the controller does not answer.
    pub async fn alerts(&self) -> Result<Alerts, Problem> {
        self.ask(Command::Alerts).await
    }

    /// Every edge that shares a store.
    ///
    /// # Errors
    ///
    /// Where the controller does not answer, or there is no store.
    pub async fn fleet(&self) -> Result<Fleet, Problem> {
        Ok(self.ask(|reply| Command::Fleet(FleetCommand::Show(reply))).await??)
    }

    /// What keeps the data path from balancing as it should; empty: nothing.
    ///
    /// # Errors
    ///
    /// Where the controller does not answer.
    pub async fn readiness(&self) -> Result<Vec<String>, Problem> {
        self.ask(Command::Readiness).await
    }

    async fn kept<T>(
        &self,
        kept: &Kept<T>,
        command: impl FnOnce(oneshot::Sender<anyhow::Result<T>>) -> Command,
    ) -> Result<Arc<T>, Problem> {
        // Held while the controller is asked: who comes meanwhile waits for the same answer.
        let mut kept = kept.lock().await;
        if let Some((at, answer)) = &*kept
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(answer));
        }
        let answer =
            self.ask(command).await?.map(Arc::new).map_err(|error| Problem::internal(&error))?;
        *kept = Some((Instant::now(), Arc::clone(&answer)));
        Ok(answer)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Problem> {
        let unavailable = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        let stopping = || unavailable("the daemon is stopping; try again later");
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let commands = self.commands.upgrade().ok_or_else(stopping)?;
            commands.send(command(reply)).await.map_err(|_| stopping())?;
            drop(commands);
            answer.await.map_err(|_| stopping())
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            Err(unavailable("the controller does not answer; see the daemon's log"))
        })
    }
}
