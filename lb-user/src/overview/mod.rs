//! What of a status is wrong, and how wrong, and what comes in a second: for whoever looks at `status`, `top` or
//! the dashboard. Pure.

mod rate;

pub use self::rate::Rate;
use crate::{
    admin::AdminState,
    alerts::Severity,
    api::model::{BackendStatus, Daemon, ServiceStatus, Status},
    health::Health,
};

/// How good or bad something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mood {
    /// It does what it shall.
    #[default]
    Well,
    /// It is out of the way because somebody or the configuration wants it so.
    Aside,
    /// Something is not as it should be.
    Uneasy,
    /// It does not work.
    Bad,
}

/// How a backend is.
#[must_use]
pub fn of_backend(backend: &BackendStatus) -> Mood {
    let standby = backend.state == "standby";
    match (backend.admin, backend.health, backend.active) {
        (AdminState::Maintenance, ..) | (AdminState::Drain, Health::Up, _) => Mood::Aside,
        (_, Health::Up, false) if standby => Mood::Aside,
        (AdminState::Ready, Health::Up, true) if backend.state == "active" => Mood::Well,
        (AdminState::Drain, ..) | (_, Health::Unknown, _) | (_, Health::Up, true) => Mood::Uneasy,
        (AdminState::Ready, ..) => Mood::Bad,
    }
}

/// How bad an alert is.
#[must_use]
pub fn of_severity(severity: Severity) -> Mood {
    match severity {
        Severity::Critical => Mood::Bad,
        Severity::Warning => Mood::Uneasy,
        Severity::Info => Mood::Aside,
    }
}

/// How many of a service's backends are active.
#[must_use]
pub fn active(service: &ServiceStatus) -> usize {
    service.backends.iter().filter(|backend| backend.active).count()
}

/// How a service is. Some of its backends may be bad without it being worse than uneasy.
#[must_use]
pub fn of_service(service: &ServiceStatus) -> Mood {
    let active = active(service);
    if active == 0 || active < service.min_active as usize {
        return Mood::Bad;
    }
    let backends = service.backends.iter().map(of_backend);
    backends.max().unwrap_or_default().min(Mood::Uneasy)
}

/// What an operator has to know of the daemon before all else, a line each.
#[must_use]
pub fn notices(daemon: &Daemon) -> Vec<String> {
    let interfaces = daemon.interfaces.iter().filter_map(|interface| {
        let problem = interface.problem.as_ref()?;
        Some(format!("interface {} {problem}", interface.name))
    });
    let edited = daemon.config_edited.as_ref().map(|edited| {
        format!(
            "{} {}, noticed {}; what is at work stays until `evenkeel reload`",
            edited.file, edited.what, edited.since
        )
    });
    let waits = daemon.confirmation.as_ref().map(|waits| {
        format!(
            "change {} by {} is rolled back in {} unless `evenkeel confirm` keeps it",
            waits.number,
            waits.who,
            span(waits.seconds_left)
        )
    });
    let troubles = daemon.troubles.iter().cloned();
    interfaces.chain(troubles).chain(edited).chain(waits).collect()
}

/// What an operator has to know of the node as one of several edges, a line each: a drain, addresses that are not
/// announced, and a store that does not answer or is not followed.
#[must_use]
pub fn of_node(status: &Status) -> Vec<String> {
    let drain = status.node.drain.as_ref().map(|drain| {
        let left = match (&drain.until, drain.seconds_left) {
            (Some(until), Some(left)) => format!("{} left, until {until}", span(left)),
            _ => "until somebody resumes it".to_owned(),
        };
        let lasts = span(drain.seconds);
        format!("this node is drained for {lasts}, {left}; by {}: {}", drain.by, drain.reason)
    });
    let silent = status.announcements.iter().filter(|told| !told.announced || !told.wanted);
    let silent = silent.map(|told| {
        let services = told.services.join(", ");
        let is = if told.announced { "still announced" } else { "not announced" };
        let why = told.problem.as_ref().unwrap_or(&told.why);
        format!("{} ({services}) is {is} for {}: {why}", told.address, span(told.seconds))
    });
    let store = status.store.as_ref();
    let lost = store.filter(|store| !store.connected || store.problem.is_some()).map(|store| {
        let why = store.problem.as_deref().unwrap_or("no member was asked yet");
        if store.connected {
            return why.to_owned();
        }
        let (kind, revision) = (&store.kind, store.revision);
        format!("{kind} does not answer, revision {revision} stays at work: {why}")
    });
    let refused = store.and_then(|store| store.refused.as_ref());
    let refused =
        refused.map(|r| format!("revision {} of the store is not taken: {}", r.revision, r.why));
    drain.into_iter().chain(silent).chain(lost).chain(refused).collect()
}

/// The whole in a sentence, and how good that is.
#[must_use]
pub fn verdict(status: &Status) -> (Mood, String) {
    let alerts = &status.alerts;
    let mut parts = Vec::new();
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let number = alerts.iter().filter(|alert| alert.severity == severity).count();
        match number {
            0 => {}
            1 => parts.push(format!("1 {severity} alert")),
            _ => parts.push(format!("{number} {severity} alerts")),
        }
    }
    let moods = alerts.iter().map(|alert| of_severity(alert.severity));
    let mut mood = moods.max().unwrap_or_default();
    let notices = notices(&status.daemon).len();
    if notices > 0 {
        parts.push(format!("{notices} notice{}", if notices == 1 { "" } else { "s" }));
        mood = mood.max(Mood::Uneasy);
    }
    if status.node.drain.is_some() {
        parts.push("this node is drained".to_owned());
        mood = mood.max(Mood::Aside);
    }
    let silent = status.announcements.iter().filter(|told| !told.announced).count();
    if silent > 0 && status.node.drain.is_none() {
        parts.push(format!("{silent} of {} addresses not announced", status.announcements.len()));
        mood = mood.max(Mood::Uneasy);
    }
    for (of, what) in [(Mood::Bad, "failing"), (Mood::Uneasy, "impaired")] {
        let moods = status.services.iter().map(of_service);
        let number = moods.filter(|mood| *mood == of).count();
        if number > 0 {
            parts.push(format!("{} {what}", services(number)));
            mood = mood.max(of);
        }
    }
    if parts.is_empty() {
        let services = services(status.services.len());
        return (mood, format!("all well: {services}, {}", summary(status)));
    }
    (mood, format!("{}; {}", parts.join(", "), summary(status)))
}

fn services(number: usize) -> String {
    format!("{number} service{}", if number == 1 { "" } else { "s" })
}

/// How many backends are active, and how many people took out.
fn summary(status: &Status) -> String {
    let backends = || status.services.iter().flat_map(|service| &service.backends);
    let active = backends().filter(|backend| backend.active).count();
    let out = backends().filter(|backend| backend.exception.is_some()).count();
    let out = if out == 0 { String::new() } else { format!(", {out} taken out") };
    format!("{active} of {} backends active{out}", backends().count())
}

/// A span of time in its two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let mut text = String::new();
    let mut rest = seconds;
    for (size, unit) in UNITS.iter().skip(first).take(2) {
        let whole = rest / size;
        rest %= size;
        if whole > 0 || text.is_empty() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&whole.to_string());
            text.push_str(unit);
        }
    }
    text
}
