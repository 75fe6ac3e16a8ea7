//! What the service manager is told (`sd_notify(3)`): that the daemon is ready, how it stands, and that
//! it is alive. Without a manager nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::controller::Command;

/// How often the manager hears, where it has no watchdog that wants to.
const PACE: Duration = Duration::from_secs(10);

/// Says that the data path is under control, and goes on telling how it stands until the controller
/// ends. A controller that does not answer is not alive: its watchdog will end it.
pub(super) async fn tell(commands: mpsc::WeakSender<Command>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    say(&[NotifyState::Ready]);
    // Thrice in its time, as one word may come late.
    let pace = sd_notify::watchdog_enabled().map_or(PACE, |within| within / 3).min(PACE);
    let mut said = String::new();
    while let Some(summary) = ask(&commands).await {
        if summary != said {
            say(&[NotifyState::Status(&summary)]);
            said = summary;
        }
        say(&[NotifyState::Watchdog]);
        tokio::time::sleep(pace).await;
    }
}

/// Says that the daemon stops.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

async fn ask(commands: &mpsc::WeakSender<Command>) -> Option<String> {
    let (reply, answer) = oneshot::channel();
    commands.upgrade()?.send(Command::Summary(reply)).await.ok()?;
    answer.await.ok()
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager could not be told {states:?}: {error}");
    }
}
