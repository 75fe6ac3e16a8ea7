//! The lines of a new service's `[service.health]`: what differs from the defaults, and what people
//! look for.

use toml::Value;

use super::write::{Style, human};
use crate::{
    config::model::{HealthCheck, Probe},
    health::{AgentCheck, ExecProbe, GrpcProbe, HttpProbe, ProbeKind, Timing, TlsCheck},
};

pub(super) fn write(out: &mut String, health: &HealthCheck, style: &Style) {
    let Some(Probe { kind, timing, port, agent }) = health.probe() else { return };
    style.header(out, "[service.health]");
    style.key(out, "kind", kind.name());
    match kind {
        ProbeKind::Tcp => {}
        ProbeKind::Http(exchange) => http(out, exchange, style),
        ProbeKind::Https { exchange, tls } => {
            http(out, exchange, style);
            certificate(out, tls, style);
        }
        ProbeKind::Udp(probe) => {
            probe.keys().into_iter().for_each(|(key, value)| style.key(out, key, value));
        }
        ProbeKind::Grpc(probe) => grpc(out, probe, style),
        ProbeKind::Exec(probe) => exec(out, probe, style),
    }
    if let Some(port) = port {
        style.key(out, "port", i64::from(*port));
    }
    times(out, timing, style);
    if let Some(AgentCheck { port, interval, timeout, keep }) = agent {
        style.header(out, "[service.health.agent]");
        style.key(out, "port", i64::from(*port));
        style.key(out, "interval", human(*interval));
        style.key(out, "timeout", human(*timeout));
        style.key(out, "keep", human(*keep));
    }
}

fn times(out: &mut String, timing: &Timing, style: &Style) {
    let Timing { interval, timeout, rise, fall, flap_damping } = *timing;
    style.key(out, "interval", human(interval));
    style.key(out, "timeout", human(timeout));
    style.key(out, "rise", i64::from(rise));
    style.key(out, "fall", i64::from(fall));
    match flap_damping {
        Some(Timing::FLAP_DAMPING) => {}
        Some(longest) => style.key(out, "flap_damping", human(longest)),
        None => style.key(out, "flap_damping", false),
    }
}

fn http(out: &mut String, exchange: &HttpProbe, style: &Style) {
    let default = HttpProbe::default();
    if exchange.method != default.method {
        style.key(out, "method", exchange.method.as_str());
    }
    style.key(out, "path", exchange.path.as_str());
    if let Some(host) = &exchange.host {
        style.key(out, "host", host.as_str());
    }
    if exchange.expect_status != default.expect_status {
        style.key(out, "expect_status", exchange.expect_status.to_string());
    }
    if let Some(body) = &exchange.expect_body {
        style.key(out, "expect_body", body.as_str());
    }
}

fn certificate(out: &mut String, tls: &TlsCheck, style: &Style) {
    if !tls.verify {
        style.key(out, "verify", false);
    }
    if let Some(file) = &tls.ca_file {
        style.key(out, "ca_file", file.to_string_lossy().as_ref());
    }
    if let Some(name) = &tls.server_name {
        style.key(out, "server_name", name.as_str());
    }
}

fn grpc(out: &mut String, probe: &GrpcProbe, style: &Style) {
    if let Some(service) = &probe.service {
        style.key(out, "service", service.as_str());
    }
    if let Some(host) = &probe.host {
        style.key(out, "host", host.as_str());
    }
    if let Some(tls) = &probe.tls {
        style.key(out, "tls", true);
        certificate(out, tls, style);
    }
}

fn exec(out: &mut String, probe: &ExecProbe, style: &Style) {
    let words = probe.command.iter().map(|word| Value::from(word.as_str()));
    style.key(out, "command", Value::Array(words.collect()));
    if probe.user != ExecProbe::USER {
        style.key(out, "user", probe.user.as_str());
    }
}
