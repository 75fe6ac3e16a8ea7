//! `[service.health.agent]`: where agents listen, and how they are asked.

use std::time::Duration;

use super::{
    super::{Form, Is, Refused, Section, Shape, key, values},
    LONGEST_INTERVAL, SHORTEST_INTERVAL, SHORTEST_TIMEOUT,
};
use crate::{config::diagnostic::Sink, health::AgentCheck};

pub(super) const AGENT: Shape = Shape {
    header: "[service.health.agent]",
    keys: &[
        key(
            "port",
            Form::Integer(1, 65_535),
            Refused,
            "TCP port of the backends' agents, at the backend's address",
        ),
        key(
            "interval",
            Form::Duration(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            Is("\"2s\""),
            "from one question to the next",
        ),
        key(
            "timeout",
            Form::Duration(SHORTEST_TIMEOUT, LONGEST_INTERVAL),
            Is("\"1s\""),
            "for the whole of an answer; no longer than the interval",
        ),
        key(
            "keep",
            Form::Duration(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            Is("\"1m\""),
            "for how long an agent's last word stands when it answers no more; two intervals at the least, where it is not written",
        ),
    ],
    later: &[],
};
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const KEEP: Duration = Duration::from_mins(1);

pub(super) fn decode(sink: &mut Sink<'_, '_>, health: &Section<'_, '_>) -> Option<AgentCheck> {
    let subject = format!("of the agent {}", health.subject().trim_start_matches("of the probe "));
    let section = health.table(sink, "agent", &AGENT, Some(subject))?;
    section.require(sink, "port", "add port = …, the TCP port that the agents listen on");
    let mut time = |key, least, default| {
        let given = section.value(sink, key, |v| values::duration(v, least, LONGEST_INTERVAL));
        given.map_or((default, false), |given| (given.into_inner(), true))
    };
    let (interval, _) = time("interval", SHORTEST_INTERVAL, INTERVAL);
    let (timeout, written) = time("timeout", SHORTEST_TIMEOUT, TIMEOUT.min(interval));
    let (keep, kept) = time("keep", SHORTEST_INTERVAL, KEEP.max(interval * 2));
    let mut refuse = |key: &str, long: Duration, what: &str, other: Duration, remedy: &str| {
        let [long, other] = [long, other].map(humantime::format_duration);
        let message =
            format!("{key} {} is {long}, {what} its interval of {other}", section.subject());
        sink.error(&section.span_of(key), message, remedy);
    };
    if written && timeout > interval {
        refuse("timeout", timeout, "longer than", interval, "make it no longer than the interval");
    }
    if kept && keep < interval {
        refuse("keep", keep, "shorter than", interval, "make it a few intervals long");
    }
    let port = section.value(sink, "port", values::port)?.into_inner();
    Some(AgentCheck { port, interval, timeout, keep })
}
