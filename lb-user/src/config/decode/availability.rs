//! What happens when backends of a service fail and return: `min_active` and its kin, and
//! `[service.passive]`.

use std::time::Duration;

use super::{Form, Is, Means, Section, Shape, key, values};
use crate::config::{
    choices::{Forwarding, Protocol},
    diagnostic::Sink,
    model::{Availability, Passive},
};

pub(super) const PASSIVE: Shape = Shape {
    header: "[service.passive]",
    keys: &[
        key(
            "enabled",
            Form::Boolean,
            Is("true"),
            "`false`: what the kernel sees ejects nobody. Only TCP through `nat` shows anything",
        ),
        key(
            "failures",
            Form::Integer(1, MOST_FAILURES),
            Is("5"),
            "connections that are refused or not answered within a second, and at least half of those that the backend was given, eject it",
        ),
        key(
            "eject_for",
            Form::Duration(SHORTEST, LONGEST_EJECTION),
            Is("\"10s\""),
            "for how long the first time; each time in a row doubles it, up to 5 minutes",
        ),
        key(
            "keep",
            Form::Integer(1, MOST_BACKENDS),
            Means("half of the service's, rounded up"),
            "backends that stay, whatever is seen",
        ),
    ],
    later: &[],
};
/// More than a service can have.
pub(super) const MOST_BACKENDS: u32 = 1 << 16;
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
pub(super) const LONGEST_SLOW_START: Duration = Duration::from_hours(24);
const LONGEST_EJECTION: Duration = Duration::from_hours(1);
const MOST_FAILURES: u32 = 1_000_000;

/// The choices of `service`, whose packets are forwarded so.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    service: &Section<'_, '_>,
    forwarding: Option<Forwarding>,
) -> Availability {
    let default = Availability::default();
    let slow_start =
        service.value(sink, "slow_start", |v| values::duration(v, SHORTEST, LONGEST_SLOW_START));
    Availability {
        min_active: service.value_or(
            sink,
            "min_active",
            |v| values::integer(v, 1, MOST_BACKENDS),
            default.min_active,
        ),
        on_all_down: service.value_or(sink, "on_all_down", values::choice, default.on_all_down),
        on_down: service.value_or(sink, "on_down", values::choice, default.on_down),
        slow_start: slow_start.map(toml::Spanned::into_inner),
        passive: passive(sink, service, forwarding),
    }
}

/// Only of TCP and of NAT does the kernel see what becomes of an attempt.
fn passive(
    sink: &mut Sink<'_, '_>,
    service: &Section<'_, '_>,
    forwarding: Option<Forwarding>,
) -> Option<Passive> {
    let udp = service.reads("protocol", |v| values::choice::<Protocol>(v)) == Some(Protocol::Udp);
    let blind = forwarding.filter(|forwarding| *forwarding != Forwarding::Nat);
    let default = (!udp && blind.is_none()).then(Passive::default);
    let subject = format!("of the passive health {}", service.subject());
    let Some(section) = service.table(sink, "passive", &PASSIVE, Some(subject)) else {
        return default;
    };
    let enabled = section.value_or(sink, "enabled", values::boolean, true);
    if enabled && default.is_none() {
        let why = match blind {
            Some(forwarding) => {
                format!("with forwarding = \"{forwarding}\" answers do not pass here")
            }
            None => "over UDP nobody is refused".to_owned(),
        };
        let message = format!("[service.passive] {} sees nothing: {why}", service.subject());
        let remedy = "remove it; probes see what it cannot";
        sink.error(&service.span_of("passive"), message, remedy);
    }
    let default = Passive::default();
    let passive = Passive {
        failures: section.value_or(
            sink,
            "failures",
            |v| values::integer(v, 1, MOST_FAILURES),
            default.failures,
        ),
        eject_for: section.value_or(
            sink,
            "eject_for",
            |v| values::duration(v, SHORTEST, LONGEST_EJECTION),
            default.eject_for,
        ),
        keep: section
            .value(sink, "keep", |v| values::integer(v, 1, MOST_BACKENDS))
            .map(toml::Spanned::into_inner),
    };
    enabled.then_some(passive)
}
