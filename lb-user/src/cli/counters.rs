//! `evenkeel counters`: sums, or rates, once or again and again.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use comfy_table::Cell;

use super::{Format, Output, Usage, output, place::Place};
use crate::api::{
    Client,
    model::{BackendCounters, Counters, Failures},
};

/// The time between two readings that a rate is taken from.
const RATE_WINDOW: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub struct CountersArgs {
    /// Only this service, or this backend of it
    #[arg(value_name = "SERVICE[/BACKEND]")]
    filter: Option<String>,
    /// Show them again every so many seconds, until Ctrl-C
    ///
    /// On a terminal they are shown in place; elsewhere, and as JSON, one after the other.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
    watch: Option<f64>,
    /// Show the change per second instead of the sums
    #[arg(long)]
    rate: bool,
    #[command(flatten)]
    format: Format,
}

/// Shows the counters as asked.
pub async fn show(client: &Client, args: &CountersArgs) -> Result<()> {
    let pause = args.watch.map(Duration::from_secs_f64);
    let json = args.format.output == Output::Json;
    let in_place = pause.is_some() && !json && io::stdout().is_terminal();
    let mut place = in_place.then(Place::default);
    let mut before = args.rate.then_some((Instant::now(), fetch(client, args).await?));
    if args.rate {
        tokio::time::sleep(pause.unwrap_or(RATE_WINDOW)).await;
    }
    loop {
        let (now, counters) = (Instant::now(), fetch(client, args).await?);
        let shown = match &before {
            Some((then, old)) => {
                let rates = rates(old, &counters, now.duration_since(*then).as_secs_f64());
                before = Some((now, counters));
                rates
            }
            None => counters,
        };
        match (json, &mut place, pause) {
            (true, _, Some(_)) => output::json_line(&shown)?,
            (true, _, None) => output::json(&shown)?,
            (false, Some(place), _) => place.show(&text(&shown, args))?,
            (false, None, _) => output::print(&text(&shown, args))?,
        }
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Ok(()),
        }
        if !json && place.is_none() {
            output::print("\n")?;
        }
    }
}

/// Seconds from one look to the next.
pub(super) fn pause(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it takes 0.1 to 86400 seconds".to_owned()),
    }
}

/// The counters that the filter asks for.
async fn fetch(client: &Client, args: &CountersArgs) -> Result<Counters> {
    let mut counters: Counters = client.get("/v1/counters").await?;
    let Some(filter) = &args.filter else { return Ok(counters) };
    let (service, backend) = match filter.split_once('/') {
        Some((service, backend)) => (service, Some(backend)),
        None => (filter.as_str(), None),
    };
    counters.services.retain(|known| known.name == service);
    let wanted = |name: &str| backend.is_none_or(|backend| backend == name);
    for service in &mut counters.services {
        service.backends.retain(|known| wanted(&known.name));
    }
    counters.removed.retain(|known| known.service == service && wanted(&known.backend.name));
    let nothing = match backend {
        Some(_) => counters.services.iter().all(|service| service.backends.is_empty()),
        None => counters.services.is_empty(),
    };
    if nothing && counters.removed.is_empty() {
        let problem = format!("there is no {filter:?}; see `evenkeel backend list`");
        return Err(Usage(problem).into());
    }
    Ok(counters)
}

/// What changed per second. Open connections are no sum, and stay as they are.
fn rates(old: &Counters, new: &Counters, seconds: f64) -> Counters {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is shown in whole numbers"
    )]
    let per_second =
        |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds.max(1e-3)).round() as u64;
    let mut rates = new.clone();
    for service in &mut rates.services {
        let earlier = old.services.iter().find(|earlier| earlier.name == service.name);
        for backend in &mut service.backends {
            let earlier = earlier
                .and_then(|earlier| earlier.backends.iter().find(|old| old.name == backend.name))
                .cloned()
                .unwrap_or_default();
            backend.connections.total =
                per_second(backend.connections.total, earlier.connections.total);
            backend.packets.inward = per_second(backend.packets.inward, earlier.packets.inward);
            backend.packets.outward = per_second(backend.packets.outward, earlier.packets.outward);
            backend.bytes.inward = per_second(backend.bytes.inward, earlier.bytes.inward);
            backend.bytes.outward = per_second(backend.bytes.outward, earlier.bytes.outward);
            let (now, then) = (&mut backend.failures, earlier.failures);
            now.refused = per_second(now.refused, then.refused);
            now.unanswered = per_second(now.unanswered, then.unanswered);
            now.redispatched = per_second(now.redispatched, then.redispatched);
            now.reset = per_second(now.reset, then.reset);
            now.evicted = per_second(now.evicted, then.evicted);
            backend.handshake_microseconds =
                per_second(backend.handshake_microseconds, earlier.handshake_microseconds);
            for (now, then) in backend.handshakes.iter_mut().zip(&earlier.handshakes) {
                now.count = per_second(now.count, then.count);
            }
        }
    }
    for (name, count) in &mut rates.verdicts {
        *count = per_second(*count, old.verdicts.get(name).copied().unwrap_or(0));
    }
    rates.removed.clear();
    rates
}

fn text(counters: &Counters, args: &CountersArgs) -> String {
    let rate = args.rate;
    let wide = args.format.output == Output::Wide;
    let per = |name: &str| if rate { format!(">{name}/S") } else { format!(">{name}") };
    let mut heads = vec!["SERVICE".to_owned(), "BACKEND".to_owned(), per("CONNECTIONS")];
    heads.extend([">SHARE".to_owned(), ">OPEN".to_owned()]);
    heads.extend(["PACKETS IN", "PACKETS OUT", "BYTES IN", "BYTES OUT"].map(per));
    if wide {
        heads.extend(["REFUSED", "UNANSWERED", "REDISPATCHED", "RESET", "EVICTED"].map(per));
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = output::table(&heads);
    for service in &counters.services {
        let total: u64 = service.backends.iter().map(|b| b.connections.total).sum();
        for backend in &service.backends {
            table.add_row(row(&service.name, backend, total, wide));
        }
    }
    for removed in &counters.removed {
        let mut row = row(&removed.service, &removed.backend, 0, wide);
        row[1] = Cell::new(format!("{} (removed)", removed.backend.name));
        table.add_row(row);
    }
    let mut text = output::rendered(&table);
    let mut verdicts = output::table(&["VERDICT", if rate { ">PACKETS/S" } else { ">PACKETS" }]);
    for (name, count) in counters.verdicts.iter().filter(|(_, count)| wide || **count > 0) {
        verdicts.add_row([name.clone(), output::count(*count)]);
    }
    text.push('\n');
    text.push_str(&output::rendered(&verdicts));
    text
}

fn row(service: &str, backend: &BackendCounters, total: u64, wide: bool) -> Vec<Cell> {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let share = match total {
        0 => "-".to_owned(),
        _ => output::percent(backend.connections.total as f64 / total as f64),
    };
    let mut cells = vec![
        Cell::new(service),
        Cell::new(&backend.name),
        Cell::new(output::count(backend.connections.total)),
        Cell::new(share),
        Cell::new(output::count(backend.connections.open)),
        Cell::new(output::count(backend.packets.inward)),
        Cell::new(output::count(backend.packets.outward)),
        Cell::new(output::bytes(backend.bytes.inward)),
        Cell::new(output::bytes(backend.bytes.outward)),
    ];
    if wide {
        let Failures { refused, unanswered, redispatched, reset, evicted } = backend.failures;
        let failures = [refused, unanswered, redispatched, reset, evicted];
        cells.extend(failures.map(|failures| Cell::new(output::count(failures))));
    }
    cells
}
