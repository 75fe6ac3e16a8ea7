//! What is wrong with the host and the daemon itself: tables, interfaces, lateness, the file, deliveries.

use std::time::{Duration, Instant};

use super::{
    super::{Kind, facts::Facts},
    Finding, LOWER,
};
use crate::config::alerts::Alerts;

/// For how long lateness, and connections that had no room, are told.
const MINUTE: Duration = Duration::from_mins(1);

/// What is remembered of the host.
#[derive(Debug, Default)]
pub(super) struct Host {
    table: Option<(u64, Seen)>,
    repairs: Option<(u64, Seen)>,
    late: Option<(Instant, Duration, &'static str)>,
    dropped: Option<(u64, Seen)>,
}

/// When something was last seen, and how often since it is told.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    last: Option<Instant>,
    times: u64,
}

impl Seen {
    /// Follows a counter; answers how often it rose while that was told, within `span` of the last time.
    fn follow(known: &mut Option<(u64, Self)>, count: u64, span: Duration, now: Instant) -> u64 {
        let (before, seen) = known.get_or_insert((count, Self::default()));
        if seen.last.is_some_and(|last| now.saturating_duration_since(last) > span) {
            *seen = Self::default();
        }
        if count > *before {
            seen.last = Some(now);
            seen.times += count - *before;
        }
        *before = count;
        seen.times
    }
}

impl Host {
    pub(super) fn judge(
        &mut self,
        found: &mut Vec<Finding>,
        facts: &Facts<'_>,
        config: &Alerts,
        now: Instant,
    ) {
        found.extend(lost_interfaces(facts));
        found.extend(self.table(facts, config, now));
        found.extend(self.drift(facts, config, now));
        found.extend(self.late(facts, config, now));
        found.extend(edited(facts));
        found.extend(self.deliveries(facts, config, now));
    }

    fn table(&mut self, facts: &Facts<'_>, config: &Alerts, now: Instant) -> Option<Finding> {
        let table = facts.table;
        let span = MINUTE.min(config.recent);
        let refused = Seen::follow(&mut self.table, table.refused, span, now);
        #[expect(clippy::cast_precision_loss, reason = "entries are far below 2^52")]
        let fill = table.entries as f64 / table.room.max(1) as f64;
        let bound = config.table_fill.get();
        // Clears 10 of 80 percent below.
        if refused == 0 && fill < bound * (1.0 - (1.0 - LOWER) / 2.4) {
            return None;
        }
        let percent = fill * 100.0;
        let turned = if refused == 0 {
            String::new()
        } else {
            format!("; {refused} new connections found no room within a minute")
        };
        let summary = format!("the connection table is {percent:.0} % full{turned}");
        let certain = refused > 0 || fill >= bound;
        let finding = Finding::of_host(Kind::TablePressure, certain, summary);
        let finding = finding.number("fill", fill).number("threshold", bound);
        let finding = finding.count("entries", table.entries).count("room", table.room);
        Some(finding.count("refused", refused))
    }

    fn drift(&mut self, facts: &Facts<'_>, config: &Alerts, now: Instant) -> Option<Finding> {
        let times = Seen::follow(&mut self.repairs, facts.repairs, config.recent, now);
        let what = facts.repaired;
        let summary =
            format!("somebody else changed the kernel's tables ({times} times); mended: {what}");
        (times > 0).then(|| {
            let finding = Finding::of_host(Kind::Drift, true, summary);
            finding.count("repairs", times).text("last", what)
        })
    }

    fn late(&mut self, facts: &Facts<'_>, config: &Alerts, now: Instant) -> Option<Finding> {
        let (late, what) = if facts.probe_late >= facts.look_late {
            (facts.probe_late, "probes")
        } else {
            (facts.look_late, "looks at the counters")
        };
        let span = MINUTE.min(config.recent);
        self.late = self.late.filter(|(at, ..)| now.saturating_duration_since(*at) <= span);
        if late >= config.late && self.late.is_none_or(|(_, most, _)| late >= most) {
            self.late = Some((now, late, what));
        }
        let (_, late, what) = self.late?;
        let seconds = late.as_secs_f64();
        let summary = format!("{what} began up to {seconds:.1} s late: this host is overloaded");
        let finding = Finding::of_host(Kind::ProbesLate, true, summary);
        let finding = finding.number("late_seconds", seconds).text("what", what);
        Some(finding.number("threshold_seconds", config.late.as_secs_f64()))
    }

    fn deliveries(&mut self, facts: &Facts<'_>, config: &Alerts, now: Instant) -> Option<Finding> {
        let sum = facts.deliveries.iter().map(|delivery| delivery.dropped).sum();
        // Those that went before the first look are news, too.
        self.dropped.get_or_insert_default();
        let dropped = Seen::follow(&mut self.dropped, sum, config.recent, now);
        let failing = facts.deliveries.iter().filter(|delivery| delivery.is_failing());
        let names: Vec<_> = failing.clone().map(|delivery| delivery.target.as_str()).collect();
        if names.is_empty() && dropped == 0 {
            return None;
        }
        let problem = failing.clone().find_map(|delivery| delivery.problem.as_deref());
        let summary = match problem {
            Some(problem) => format!("alerts do not reach {}: {problem}", names.join(", ")),
            None => format!("{dropped} alerts were dropped before they were delivered"),
        };
        let finding = Finding::of_host(Kind::DeliveryFailed, true, summary);
        let finding = finding.count("dropped", dropped).text("targets", names.join(", "));
        let waiting = facts.deliveries.iter().map(|delivery| delivery.waiting).sum();
        Some(finding.count("waiting", waiting).text("problem", problem.unwrap_or_default()))
    }
}

fn lost_interfaces(facts: &Facts<'_>) -> Option<Finding> {
    let first = facts.interfaces.first()?;
    let names: Vec<_> = facts.interfaces.iter().map(|lost| lost.name.as_str()).collect();
    let problem = first.problem.as_deref().unwrap_or("has no program");
    let summary = format!("interface {} {problem}", first.name);
    let finding = Finding::of_host(Kind::InterfaceLost, true, summary);
    Some(finding.count("lost", names.len() as u64).text("interfaces", names.join(", ")))
}

fn edited(facts: &Facts<'_>) -> Option<Finding> {
    let (file, what) = facts.edited?;
    let summary = format!("{file} {what} and is not what is at work");
    let finding = Finding::of_host(Kind::ConfigNotApplied, true, summary);
    Some(finding.text("file", file).text("what", what))
}
