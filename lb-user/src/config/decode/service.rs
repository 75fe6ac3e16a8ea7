//! `[[service]]` and `[[service.backend]]`.

use std::time::Duration;

use super::{
    ALLOW, ALLOW_FILE, DENY, DENY_FILE, Form, Is, Means, PrefixFiles, RawAnnounce, RawBackend,
    RawService, Refused, Section, Shape, announce, availability, discovery, health, key, names,
    traffic,
    values::{self, Problem},
};
use crate::config::{
    choices::{Forwarding, Named, OnAllDown, OnDown, Overload, Protocol, Scheduler, Tier},
    diagnostic::Sink,
    model::{HealthCheck, Service},
};

pub(super) const SERVICE: Shape = Shape {
    header: "[[service]]",
    keys: &[
        key(
            "name",
            Form::Words(
                "name: 1 to 63 letters, digits, dots, underscores and hyphens, a letter or digit first",
            ),
            Refused,
            "its name; no two services have the same",
        ),
        key(
            "address",
            Form::Words("address with port"),
            Refused,
            "the virtual address: `\"192.0.2.10:80\"`, `\"[2001:db8::10]:80\"`, or `\"192.0.2.10:*\"` for every port that has no service of its own",
        ),
        key("protocol", Form::Choice(names::<Protocol>), Is("\"tcp\""), "the transport protocol"),
        key(
            "scheduler",
            Form::Choice(names::<Scheduler>),
            Is("\"round-robin\""),
            "how a new connection picks its backend, always by weight: in turn; the less loaded of two drawn; by the flow's hash, alike on every edge; by the client's hash; drawn",
        ),
        key(
            "table_size",
            Form::Words("prime, 2 to 1048573"),
            Is("65537"),
            "slots of the table of `maglev` and `source-hash`; at least 100 for each backend keep the shares true",
        ),
        key(
            "forwarding",
            Form::Choice(names::<Forwarding>),
            Is("\"nat\""),
            "how packets reach the backends; see [Forwarding](../forwarding.md) for what each mode asks of them",
        ),
        key(
            "snat",
            Form::Boolean,
            Is("true"),
            "of `nat`: `false` keeps the client's address, where the backends route through this host",
        ),
        key("gue_port", Form::Integer(1, 65_535), Is("6080"), "of `gue`: the backends' UDP port"),
        key(
            "sticky",
            Form::Duration(SHORTEST_STICKY, LONGEST_STICKY),
            Means("clients are not remembered"),
            "for how long after its last new connection a client keeps its backend",
        ),
        key(
            "overload",
            Form::Choice(names::<Overload>),
            Is("\"reject\""),
            "a new connection when every backend has all it takes: the client is told (RST, ICMP unreachable), or nothing is said",
        ),
        key(
            "min_active",
            Form::Integer(1, availability::MOST_BACKENDS),
            Is("1"),
            "active backends that there shall be: below it backups join, and people's changes are refused",
        ),
        key(
            "on_all_down",
            Form::Choice(names::<OnAllDown>),
            Is("\"reject\""),
            "new connections when no backend is active: turned away, or `keep` on with those that nobody took out",
        ),
        key(
            "on_down",
            Form::Choice(names::<OnDown>),
            Is("\"keep\""),
            "a failed backend's open connections: they stay, or are cut (`reset`)",
        ),
        key(
            "slow_start",
            Form::Duration(availability::SHORTEST, availability::LONGEST_SLOW_START),
            Means("its whole share at once"),
            "for how long the share of a backend that returns grows, from a tenth",
        ),
        key(
            "passive",
            Form::Table(&availability::PASSIVE),
            Means("its defaults; nothing over UDP and in other modes than `nat`"),
            "when what the kernel sees ejects a backend before a probe does; see [Availability](../availability.md)",
        ),
        ALLOW,
        ALLOW_FILE,
        DENY,
        DENY_FILE,
        key(
            "announce",
            Form::Table(&announce::OF_SERVICE),
            Means("as `[announce]` has it"),
            "how its address is announced, and when, if otherwise; see [Announcing](../announce.md)",
        ),
        key(
            "timeouts",
            Form::Table(&traffic::TIMEOUTS),
            Means("its defaults"),
            "for how long connections may be idle",
        ),
        key(
            "limits",
            Form::Table(&traffic::LIMITS),
            Means("no limit"),
            "how many new connections there may be",
        ),
        key(
            "health",
            Form::Table(&health::HEALTH),
            Means("no probe: every backend counts as up, and `check` warns"),
            "how the backends are probed; see [Health](../health.md)",
        ),
        key(
            "expected_connections",
            Form::Integer(1, MOST_CONNECTIONS),
            Means("not stated"),
            "open connections on the busiest day; `verify` compares them with the backends' `capacity`",
        ),
        key(
            "discover",
            Form::Words(
                "source, or list of sources: `dns:NAME:PORT`, `dns:_SERVICE._PROTOCOL.NAME`, `file:PATH`, `kubernetes:NAMESPACE/SERVICE`",
            ),
            Means("the backends are those below"),
            "where more backends come from; see [Discovery](../discovery.md)",
        ),
        key(
            "backend",
            Form::Tables(&BACKEND),
            Means("none: every connection is turned away"),
            "a server",
        ),
    ],
    later: &[],
};
const BACKEND: Shape = Shape {
    header: "[[service.backend]]",
    keys: &[
        key(
            "name",
            Form::Words("name, as of a service"),
            Refused,
            "its name; no two backends of a service have the same",
        ),
        key(
            "address",
            Form::Words("address with port"),
            Refused,
            "its address; port `*` keeps the port that the client asked for. `dsr`, `ipip` and `gue` need the service's port",
        ),
        key(
            "weight",
            Form::Integer(1, 65_535),
            Is("1"),
            "its share of new connections, relative to the other weights",
        ),
        key(
            "tier",
            Form::Choice(names::<Tier>),
            Is("\"primary\""),
            "`backup`: it joins while fewer than `min_active` primaries are active",
        ),
        key(
            "max_connections",
            Form::Integer(1, MOST_CONNECTIONS),
            Means("any number"),
            "established connections that it takes at the most",
        ),
        key(
            "capacity",
            Form::Integer(1, MOST_CONNECTIONS),
            Means("not stated"),
            "open connections that it can carry; limits nothing, and is what `verify` and the alert `no-headroom` reckon with",
        ),
    ],
    later: &[],
};
const SHORTEST_STICKY: Duration = Duration::from_secs(1);
const LONGEST_STICKY: Duration = Duration::from_hours(30 * 24);
/// As many as the connection table can be made for.
const MOST_CONNECTIONS: u32 = 1 << 26;

/// Every `[[service]]` of the document.
pub(super) fn decode_all(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    announced: Option<&RawAnnounce>,
    files: &mut PrefixFiles<'_>,
) -> Vec<RawService> {
    let sections = root.tables(sink, "service", &SERVICE, |name| format!("of service {name:?}"));
    sections.iter().map(|section| decode_service(sink, section, announced, files)).collect()
}

fn decode_service(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    announced: Option<&RawAnnounce>,
    files: &mut PrefixFiles<'_>,
) -> RawService {
    section.require(sink, "name", "add name = \"…\"");
    section.require(sink, "address", "add address = \"192.0.2.10:80\"");
    let backends = section.tables(sink, "backend", &BACKEND, |name| format!("of backend {name:?}"));
    let scheduler = chosen(sink, section, "scheduler");
    let forwarding = chosen(sink, section, "forwarding");
    refuse_idle_keys(sink, section, scheduler, forwarding);
    let sticky = section
        .value(sink, "sticky", |v| values::duration(v, SHORTEST_STICKY, LONGEST_STICKY))
        .map(toml::Spanned::into_inner);
    RawService {
        span: section.span.clone(),
        name: section.value(sink, "name", values::name),
        address: section.value(sink, "address", values::socket_address),
        protocol: section.value_or(sink, "protocol", values::choice, Protocol::default()),
        scheduler,
        table_size: section.value_or(sink, "table_size", values::table_size, Service::TABLE_SIZE),
        table_size_span: section.span_of("table_size"),
        forwarding,
        snat: section.value_or(sink, "snat", values::boolean, true),
        gue_port: section.value_or(sink, "gue_port", values::port, Service::GUE_PORT),
        sticky,
        overload: section.value_or(sink, "overload", values::choice, Overload::default()),
        availability: availability::decode(sink, section, forwarding),
        min_active_span: section.span_of("min_active"),
        announce: announce::of_service(sink, section, announced, files.folder()),
        timeouts: traffic::timeouts(sink, section),
        limits: traffic::limits(sink, section),
        prefixes: files.decode(sink, section),
        health: if section.has("health") {
            health::decode(sink, section, files.folder())
        } else {
            Some(HealthCheck::None)
        },
        expected_connections: section
            .value(sink, "expected_connections", |v| values::integer(v, 1, MOST_CONNECTIONS))
            .map(toml::Spanned::into_inner),
        discover: discovery::of_service(sink, section, files.folder()),
        backends: backends.iter().map(|backend| decode_backend(sink, backend)).collect(),
    }
}

/// The choice that `key` makes, its default where it is missing, `None` where it is wrong.
fn chosen<T>(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, key: &str) -> Option<T>
where
    T: Named + Default,
{
    if section.has(key) {
        section.value(sink, key, values::choice).map(toml::Spanned::into_inner)
    } else {
        Some(T::default())
    }
}

/// Reports keys that mean nothing beside this scheduler or this forwarding mode.
fn refuse_idle_keys(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    scheduler: Option<Scheduler>,
    forwarding: Option<Forwarding>,
) {
    let mut refuse = |key: &str, beside: String, instead: &str| {
        if section.has(key) {
            let message = format!("{key} {} means nothing to {beside}", section.subject());
            sink.error(&section.span_of(key), message, format!("remove it, or set {instead}"));
        }
    };
    if let Some(scheduler) = scheduler.filter(|scheduler| !scheduler.hashes()) {
        let instead = "scheduler = \"maglev\" or \"source-hash\"";
        refuse("table_size", format!("the scheduler {scheduler}"), instead);
    }
    if let Some(forwarding) = forwarding {
        let beside = format!("the forwarding mode {forwarding}");
        if forwarding != Forwarding::Nat {
            refuse("snat", beside.clone(), "forwarding = \"nat\"");
        }
        if forwarding != Forwarding::Gue {
            refuse("gue_port", beside, "forwarding = \"gue\"");
        }
    }
}

fn decode_backend(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> RawBackend {
    section.require(sink, "name", "add name = \"…\"");
    section.require(sink, "address", "add address = \"10.0.0.11:8080\"");
    let weight = if section.has("weight") {
        section.value(sink, "weight", weight).map(toml::Spanned::into_inner)
    } else {
        Some(1)
    };
    RawBackend {
        span: section.span.clone(),
        name: section.value(sink, "name", values::name),
        address: section.value(sink, "address", values::socket_address),
        weight,
        tier: section.value_or(sink, "tier", values::choice, Tier::default()),
        max_connections: section
            .value(sink, "max_connections", max_connections)
            .map(toml::Spanned::into_inner),
        capacity: section.value(sink, "capacity", |v| values::integer(v, 1, MOST_CONNECTIONS)),
    }
}

fn weight(value: &toml::de::DeValue<'_>) -> Result<u16, Problem> {
    if matches!(values::integer(value, 0, 0), Ok(0)) {
        return Err(Problem::new(
            "is 0",
            "take a backend out for a while with `evenkeel backend drain`, or for good with \
             `evenkeel backend remove`",
        ));
    }
    Ok(u16::try_from(values::integer(value, 1, 65_535)?).unwrap_or(u16::MAX))
}

fn max_connections(value: &toml::de::DeValue<'_>) -> Result<u32, Problem> {
    if matches!(values::integer(value, 0, 0), Ok(0)) {
        let remedy = "remove it for no limit; take a backend out with `evenkeel backend drain`";
        return Err(Problem::new("is 0", remedy));
    }
    values::integer(value, 1, MOST_CONNECTIONS)
}
