//! `evenkeel top`: what the balancer does, in a terminal, as it happens.
//!
//! `feed` asks the daemon, `app` is the state and what keys and news make of it (pure), `view` turns it
//! into a frame (pure), `terminal` writes what changed. Here they are tied together.

mod app;
mod feed;
mod terminal;
#[cfg(test)]
mod testing;
mod view;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow};
use ratatui::crossterm::event::{self, Event as Input};
use rustix::process::{Signal, getpid, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

pub use self::view::is_utf8;
use self::{
    app::{App, Intent},
    feed::{Feed, News},
    terminal::Screen,
    view::Theme,
};

/// Shows the dashboard until somebody quits.
///
/// # Errors
///
/// Where there is no terminal to show it on, no daemon answers at the start, or the terminal fails.
pub async fn run(socket: &Path, interval: Duration, colour: bool) -> Result<()> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || dumb {
        let which = if dumb { "a terminal that can be drawn on (TERM)" } else { "a terminal" };
        return Err(anyhow!(
            "`evenkeel top` needs {which}; elsewhere use `evenkeel counters --watch --rate`, or \
             `evenkeel status`"
        ));
    }
    let mut feed = Feed::new(socket.to_owned());
    let changer = feed.changer();
    // Who names the wrong socket learns it at once; who loses the daemon later sees when it is back.
    let first = feed.read().await?;
    let theme = Theme { colour, unicode: is_utf8(|name| std::env::var(name).ok()) };
    let mut app = App::new(theme, interval);
    app.take_in(News::Reading(Box::new(first)), SystemTime::now());

    let (tell, mut news) = unbounded_channel();
    let mut asking = tokio::spawn(feed.run(interval, tell.clone()));
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let [terminate, interrupt, hangup] = &mut ends[..] else {
        return Err(anyhow!("three signals are waited for"));
    };
    let mut screen = Screen::take().context("take over the terminal")?;
    let mut keys = read_keys();
    loop {
        screen.draw(&app).context("write to the terminal")?;
        tokio::select! {
            Some(told) = news.recv() => app.take_in(told, SystemTime::now()),
            input = keys.recv() => {
                // The terminal is gone.
                let Some(input) = input else { return Ok(()) };
                if act(&input, &mut app, &mut screen, &changer, &tell)?.is_break() {
                    return Ok(());
                }
            }
            failed = &mut asking => {
                return Err(anyhow!("the task that asks the daemon has ended: {failed:?}"));
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
        // On a slow link there may be more by now, and one picture of it will do.
        while let Ok(told) = news.try_recv() {
            app.take_in(told, SystemTime::now());
        }
    }
}

/// Does what a key or a change of the terminal's size asks for.
fn act(
    input: &Input,
    app: &mut App,
    screen: &mut Screen,
    changer: &feed::Changer,
    tell: &UnboundedSender<News>,
) -> Result<std::ops::ControlFlow<()>> {
    let &Input::Key(key) = input else { return Ok(std::ops::ControlFlow::Continue(())) };
    match app.press(key) {
        None => {}
        Some(Intent::Quit) => return Ok(std::ops::ControlFlow::Break(())),
        Some(Intent::Repaint) => screen.forget()?,
        Some(Intent::Suspend) => screen.without(|| {
            // As the terminal would have done it; goes on when the shell says so.
            let _ = kill_process(getpid(), Signal::TSTP);
        })?,
        Some(Intent::Change(request)) => {
            tokio::spawn(changer.clone().change(request, tell.clone()));
        }
    }
    Ok(std::ops::ControlFlow::Continue(()))
}

/// A thread that waits for keys; it ends with the process.
fn read_keys() -> UnboundedReceiver<Input> {
    let (tell, keys) = unbounded_channel();
    thread::spawn(move || {
        while let Ok(input) = event::read() {
            if tell.send(input).is_err() {
                return;
            }
        }
    });
    keys
}
