//! `[discovery]`, and `discover` of a service.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeValue};

use super::{
    Form, Means, Section, Shape, key,
    values::{self, Problem},
};
use crate::config::{
    diagnostic::Sink,
    discovery::{Discovery, DiscoverySource},
};

/// The port of the DNS.
const DNS_PORT: u16 = 53;

pub(super) const DISCOVERY: Shape = Shape {
    header: "[discovery]",
    keys: &[
        key(
            "dns_servers",
            Form::Words("list of addresses, with a port where it is not 53"),
            Means("those of `/etc/resolv.conf`"),
            "the DNS servers that are asked",
        ),
        key(
            "kubeconfig",
            Form::Words("file name"),
            Means("`$KUBECONFIG`, or what Kubernetes gives each pod"),
            "how Kubernetes' API is reached; a relative path starts at the configuration's folder",
        ),
    ],
    later: &[],
};

/// `[discovery]` of the document, or its defaults.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Discovery {
    let Some(section) = root.table(sink, "discovery", &DISCOVERY, None) else {
        return Discovery::default();
    };
    let servers = section.list(sink, "dns_servers", dns_server).unwrap_or_default();
    let kubeconfig = section.value(sink, "kubeconfig", |value| {
        let text = values::string(value)?;
        if text.is_empty() {
            return Err(Problem::new("is empty", "name the file, or remove the key"));
        }
        Ok(placed(Path::new(text), folder))
    });
    Discovery {
        dns_servers: servers.into_iter().map(Spanned::into_inner).collect(),
        kubeconfig: kubeconfig.map(Spanned::into_inner),
    }
}

/// The sources of a service: one text, or a list.
pub(super) fn of_service(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Vec<DiscoverySource> {
    let source = |value: &DeValue<'_>| {
        let text = values::string(value)?;
        let source: DiscoverySource =
            text.parse().map_err(|error: crate::config::NotASource| {
                Problem::new(format!("is {text:?}, which {}", error.says), error.remedy)
            })?;
        Ok(match source {
            DiscoverySource::File { path, port } => {
                DiscoverySource::File { path: placed(&path, folder), port }
            }
            other => other,
        })
    };
    let single = section.reads("discover", |value| values::string(value).map(drop)).is_some();
    let found = if single {
        section.value(sink, "discover", source).into_iter().collect()
    } else {
        section.list(sink, "discover", source).unwrap_or_default()
    };
    let mut sources = Vec::with_capacity(found.len());
    for source in found {
        if sources.contains(source.get_ref()) {
            let message =
                format!("discover {} lists {} twice", section.subject(), source.get_ref());
            sink.error(&source.span(), message, "list it once");
        } else {
            sources.push(source.into_inner());
        }
    }
    sources
}

fn placed(path: &Path, folder: Option<&Path>) -> PathBuf {
    folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

fn dns_server(value: &DeValue<'_>) -> Result<SocketAddr, Problem> {
    let text = values::string(value)?;
    let server = match text.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, DNS_PORT)),
        Err(_) => text.parse().ok().filter(|server: &SocketAddr| server.port() != 0),
    };
    server.filter(|server| !server.ip().is_unspecified()).ok_or_else(|| {
        let says = format!("is {text:?}, not the address of a server");
        Problem::new(says, "write it like \"10.0.0.53\" or \"10.0.0.53:5353\"")
    })
}
