//! What a probe asks of a certificate: `verify`, `ca_file` and `server_name`, and gRPC's `tls`.

use std::path::{Path, PathBuf};

use toml::{Spanned, de::DeValue};

use super::{
    super::{
        Section,
        values::{self, Problem},
    },
    Kind,
};
use crate::{
    config::diagnostic::Sink,
    health::{TlsCheck, authorities, is_server_name, without_port},
};

const KEYS: [&str; 3] = ["verify", "ca_file", "server_name"];

/// What is asked of the certificate; `None` where there is no TLS.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
    kind: Option<Kind>,
    host: Option<&str>,
) -> Option<TlsCheck> {
    let tls = section.value_or(sink, "tls", values::boolean, false);
    let verify = section.value_or(sink, "verify", values::boolean, true);
    let server_name = section.value(sink, "server_name", name).map(Spanned::into_inner);
    let ca_file = ca_file(sink, section, folder);
    match kind {
        Some(Kind::Https) => {}
        Some(Kind::Grpc) if tls => {}
        Some(Kind::Grpc) => {
            for key in KEYS.into_iter().filter(|key| section.has(key)) {
                let message = format!("{key} {} means nothing without TLS", section.subject());
                sink.error(&section.span_of(key), message, "remove it, or set tls = true");
            }
            return None;
        }
        _ => return None,
    }
    if !verify && section.has("ca_file") {
        let message = format!("ca_file {} means nothing with verify = false", section.subject());
        sink.error(&section.span_of("ca_file"), message, "remove one of the two");
    }
    if let Some(host) =
        host.filter(|host| !section.has("server_name") && !is_server_name(without_port(host)))
    {
        let message =
            format!("host {} is {host:?}, which no certificate can be for", section.subject());
        sink.error(&section.span_of("host"), message, "set server_name to the certificate's name");
    }
    Some(TlsCheck { verify, ca_file, server_name })
}

/// The file of authorities, which must be there and hold some.
pub(in super::super) fn ca_file(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<PathBuf> {
    let path = section.value(sink, "ca_file", file_name)?;
    let span = path.span();
    let Some(folder) = folder else { return Some(path.into_inner()) };
    let path = folder.join(path.into_inner());
    if let Err(error) = authorities(&path) {
        let message = format!("ca_file {} is {}: it {error}", section.subject(), path.display());
        let remedy = "name a file of certificates in PEM, relative to the configuration's folder, or \
                      remove it to trust the system's authorities";
        sink.error(&span, message, remedy);
    }
    Some(path)
}

fn file_name(value: &DeValue<'_>) -> Result<PathBuf, Problem> {
    match values::string(value)? {
        "" => Err(Problem::new("is empty", "name a file of certificates in PEM, or remove it")),
        path => Ok(path.into()),
    }
}

fn name(value: &DeValue<'_>) -> Result<String, Problem> {
    let name = values::string(value)?;
    if is_server_name(name) {
        return Ok(name.to_owned());
    }
    let remedy = "write a DNS name or an IP address, without a port";
    Err(Problem::new(format!("is {name:?}, which no certificate can be for"), remedy))
}
