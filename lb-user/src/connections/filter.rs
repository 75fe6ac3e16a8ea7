//! Which connections somebody asks for.

use std::collections::HashSet;

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

use super::Directory;
use crate::{
    config::{NotAPrefix, Prefix, Protocol},
    dataplane::{Connection, Stage},
    plan::{BackendId, ServiceId},
};

/// Names shown of what there is, where somebody asked for what there is not.
const SHOWN: usize = 20;

/// The filters as they are asked for: a query of the API. All that are given have to match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// A service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A backend's name, in every service that has it; or `SERVICE/BACKEND`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// An address, or a prefix of addresses, of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// States, with commas between. Without: those of connections that are not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

impl Asked {
    /// Whether nothing is asked for but all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a filter cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names what there is not.
    #[error("{0}")]
    Unknown(String),
    /// It is not well formed.
    #[error("{0}")]
    Malformed(String),
}

/// The same by numbers, as the table has them.
#[derive(Clone, Debug)]
pub struct Filter {
    services: Option<HashSet<ServiceId>>,
    backends: Option<HashSet<BackendId>>,
    client: Option<Prefix>,
    stages: Vec<Stage>,
    protocol: Option<Protocol>,
}

impl Filter {
    /// What is asked for, by the names of a directory.
    ///
    /// # Errors
    ///
    /// Where a name is unknown, or a value is none: says which there are.
    pub fn new(asked: &Asked, directory: &Directory) -> Result<Self, Refused> {
        let service = asked.service.as_deref();
        let services = service.map(|name| services(name, directory)).transpose()?;
        let backend = asked.backend.as_deref();
        let backends = backend.map(|name| backends(service, name, directory)).transpose()?;
        let client = asked.client.as_deref().map(client).transpose()?;
        let protocol = asked.protocol.as_deref().map(str::parse::<Protocol>).transpose();
        let protocol =
            protocol.map_err(|error| Refused::Malformed(format!("the protocol {error}")))?;
        let stages = asked.state.as_deref().map_or_else(
            || Ok(Stage::ALL.into_iter().filter(|stage| *stage != Stage::Closed).collect()),
            stages,
        )?;
        Ok(Self { services, backends, client, stages, protocol })
    }

    /// Whether a connection is one of those asked for.
    #[must_use]
    pub fn matches(&self, connection: &Connection) -> bool {
        self.stages.contains(&connection.stage)
            && self.services.as_ref().is_none_or(|some| some.contains(&connection.service))
            && self.backends.as_ref().is_none_or(|some| some.contains(&connection.backend))
            && self.client.is_none_or(|prefix| prefix.contains(connection.client.ip()))
            && self.protocol.is_none_or(|protocol| connection.protocol == protocol)
    }
}

fn services(name: &str, directory: &Directory) -> Result<HashSet<ServiceId>, Refused> {
    let found = directory.services_called(name);
    if found.is_empty() {
        let known = listed(directory.service_names().into_iter().map(str::to_owned));
        return Err(Refused::Unknown(format!("there is no service {name:?}; there are: {known}")));
    }
    Ok(found)
}

fn backends(
    service: Option<&str>,
    name: &str,
    directory: &Directory,
) -> Result<HashSet<BackendId>, Refused> {
    let (of, bare) = match name.split_once('/') {
        Some((of, bare)) => (Some(of), bare),
        None => (service, name),
    };
    if let (Some(service), Some(of)) = (service, of)
        && service != of
    {
        let detail =
            format!("backend {name:?} is not one of service {service:?}; name one of them");
        return Err(Refused::Malformed(detail));
    }
    let found = directory.backends_called(of, bare);
    if found.is_empty() {
        let known = listed(directory.backend_labels(service).into_iter());
        return Err(Refused::Unknown(format!("there is no backend {name:?}; there are: {known}")));
    }
    Ok(found)
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> = names.take(SHOWN).collect();
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn client(text: &str) -> Result<Prefix, Refused> {
    text.parse().map_err(|error| {
        let way = match error {
            NotAPrefix::HostBits(prefix) => format!("write {prefix}, or the address alone"),
            _ => "write an address, or a prefix like 198.51.100.0/24 or 2001:db8::/32".to_owned(),
        };
        Refused::Malformed(format!("the client {text:?} is no prefix ({error}); {way}"))
    })
}

fn stages(text: &str) -> Result<Vec<Stage>, Refused> {
    let stage = |name: &str| {
        Stage::from_str(name, false).map_err(|_| {
            let detail = format!(
                "{name:?} is not a state; the states are opening, established, closing and closed"
            );
            Refused::Malformed(detail)
        })
    };
    text.split(',').map(stage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Protocol,
        plan::{BackendEntry, Ring, ServiceEntry, ServiceKey, Tables},
    };

    fn directory() -> Directory {
        let mut tables = Tables::default();
        for (id, name) in [(0, "web"), (1, "dns")] {
            let key =
                ServiceKey { address: "192.0.2.10:80".parse().unwrap(), protocol: Protocol::Tcp };
            let ring = Ring::of(Vec::new());
            let entry = ServiceEntry { name: name.into(), key, ring, policy: None, live: true };
            tables.services.insert(ServiceId(id), entry);
        }
        for (id, service, name) in [(1, "web", "b"), (2, "web", "a"), (3, "dns", "a")] {
            let address = "10.0.0.11:80".parse().unwrap();
            let entry = BackendEntry::new(service.into(), name.into(), address, Protocol::Tcp);
            tables.backends.insert(BackendId(id), entry);
        }
        Directory::of(&tables)
    }

    fn asked(text: &str) -> Asked {
        let mut asked = Asked::default();
        for (key, value) in text.split('&').filter_map(|part| part.split_once('=')) {
            let field = match key {
                "service" => &mut asked.service,
                "backend" => &mut asked.backend,
                "client" => &mut asked.client,
                "state" => &mut asked.state,
                "protocol" => &mut asked.protocol,
                _ => panic!("{key}"),
            };
            *field = Some(value.to_owned());
        }
        asked
    }

    #[test]
    fn every_filter_has_to_match() {
        let connection = Connection {
            service: ServiceId(0),
            backend: BackendId(2),
            ..Connection::example("198.51.100.7:4000".parse().unwrap())
        };
        let cases = [
            ("", true),
            ("service=web", true),
            ("service=dns", false),
            ("backend=a", true),
            ("backend=b", false),
            ("backend=web/a", true),
            ("backend=dns/a", false),
            ("service=web&backend=a", true),
            ("client=198.51.100.0/24", true),
            ("client=198.51.100.7", true),
            ("client=198.51.100.8", false),
            ("client=2001:db8::/32", false),
            ("client=0.0.0.0/0", true),
            ("state=established", true),
            ("state=opening,closing", false),
            ("protocol=tcp", true),
            ("protocol=udp", false),
            ("service=web&client=203.0.113.0/24", false),
        ];
        for (text, expected) in cases {
            let filter = Filter::new(&asked(text), &directory()).unwrap();
            assert_eq!(filter.matches(&connection), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_over_has_to_be_asked_for() {
        let over = Connection {
            stage: Stage::Closed,
            ..Connection::example("198.51.100.7:4000".parse().unwrap())
        };
        for (text, expected) in [("", false), ("state=closed", true), ("state=closing", false)] {
            let filter = Filter::new(&asked(text), &directory()).unwrap();
            assert_eq!(filter.matches(&over), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_name_what_there_is() {
        let refusal = |text: &str| Filter::new(&asked(text), &directory()).unwrap_err();
        let said = |text: &str| refusal(text).to_string();
        assert_eq!(said("service=wbe"), "there is no service \"wbe\"; there are: dns, web");
        assert_eq!(said("backend=c"), "there is no backend \"c\"; there are: dns/a, web/a, web/b");
        let of_web = "there is no backend \"c\"; there are: web/a, web/b";
        assert_eq!(said("service=web&backend=c"), of_web);
        assert!(matches!(refusal("service=web&backend=dns/a"), Refused::Malformed(_)));
        assert!(said("client=198.51.100.7/24").contains("198.51.100.0/24"));
        assert!(said("state=open").contains("opening"));
        assert!(said("protocol=sctp").contains("tcp"));
        let many = (0..25).map(|n| n.to_string());
        assert!(listed(many).ends_with("19 and 5 more"));
    }
}
