//! Kubernetes' `EndpointSlices` (`discovery.k8s.io/v1`), from its API or from a file in that shape, and what they say
//! of servers. Pure. What is not needed here is passed over, as the API's rules ask of readers.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1 as api;
use serde::Deserialize;

use super::Found;
use crate::config::{Offer, Protocol, is_name};

/// One slice: endpoints that have the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

/// A document of a file: a slice, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    kind: String,
    #[serde(default)]
    items: Vec<Slice>,
    #[serde(default)]
    address_type: Option<String>,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

impl Document {
    /// Its slices.
    ///
    /// # Errors
    ///
    /// Where it is of another kind.
    pub(super) fn into_slices(self) -> Result<Vec<Slice>, String> {
        let Self { kind, items, address_type, endpoints, ports } = self;
        match (kind.as_str(), address_type) {
            ("EndpointSlice", Some(address_type)) => {
                Ok(vec![Slice { address_type, endpoints, ports }])
            }
            ("EndpointSlice", None) => Err("the EndpointSlice has no addressType".to_owned()),
            ("EndpointSliceList" | "List", _) => Ok(items),
            _ => Err(format!("the kind is {kind:?}, not EndpointSlice or a List of them")),
        }
    }
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    /// Nothing is said of what comes after the first.
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Option<Conditions>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    target_ref: Option<Reference>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Conditions {
    #[serde(default)]
    pub(super) ready: Option<bool>,
    #[serde(default)]
    pub(super) serving: Option<bool>,
    #[serde(default)]
    pub(super) terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Reference {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    /// `None`: every port.
    #[serde(default, rename = "port")]
    number: Option<u16>,
    /// `None`: TCP.
    #[serde(default)]
    protocol: Option<String>,
}

impl Conditions {
    /// What a server does that is in these conditions. Ready is who takes new connections; who serves without being
    /// ready finishes those that it has.
    ///
    /// As the API has it, unknown means: ready, serving like ready, not terminating. Who is said to terminate, and
    /// not said to be ready all the same (`publishNotReadyAddresses`), is not.
    pub(super) fn offer(self) -> Offer {
        let ready = self.ready.unwrap_or(!self.terminating.unwrap_or(false));
        let serving = self.serving.or(self.ready).unwrap_or(true);
        match (ready, serving) {
            (true, true) => Offer::Ready,
            (false, true) => Offer::Draining,
            (_, false) => Offer::Out,
        }
    }
}

/// The servers of slices, at their port of this name, or at the only one of this protocol.
///
/// # Errors
///
/// Where a slice cannot be understood, or does not say which port is meant.
pub(super) fn servers(
    slices: &[Slice],
    port: Option<&str>,
    protocol: Protocol,
) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    // A slice that has not the port has no such servers, but one has to have it.
    let (mut names, mut is_known) = (Vec::new(), port.is_none());
    for slice in slices {
        let Some(number) = slice.port(port, protocol)? else {
            names.extend(slice.names());
            continue;
        };
        is_known = true;
        for endpoint in slice.endpoints.iter().flatten() {
            found.push(endpoint.server(&slice.address_type, number)?);
        }
    }
    if is_known || slices.is_empty() {
        return Ok(found);
    }
    names.sort_unstable();
    names.dedup();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(format!(
        "there is no {protocol} port called {:?}; the ports are: {known}",
        port.unwrap_or("")
    ))
}

impl Slice {
    /// The number of the port that is meant; 0: every port; `None`: it has none like that.
    fn port(&self, wanted: Option<&str>, protocol: Protocol) -> Result<Option<u16>, String> {
        let all = self.ports.as_deref().unwrap_or_default();
        let fits = |port: &&Port| {
            let own = port.protocol.as_deref().unwrap_or("TCP");
            own.eq_ignore_ascii_case(&protocol.to_string())
        };
        let mut fitting = all.iter().filter(fits);
        let Some(wanted) = wanted else {
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(Some(only.number.unwrap_or(0))),
                (None, _) if all.is_empty() => Ok(Some(0)),
                (None, _) => Ok(None),
                (Some(_), Some(_)) => Err(format!(
                    "there are several {protocol} ports ({}); name the one that is meant behind the source, \
                     like …:{}",
                    self.names().join(", "),
                    self.names().first().copied().unwrap_or("http")
                )),
            };
        };
        let named = fitting.find(|port| port.name.as_deref() == Some(wanted));
        Ok(named.map(|port| port.number.unwrap_or(0)))
    }

    fn names(&self) -> Vec<&str> {
        let ports = self.ports.iter().flatten();
        ports.map(|port| port.name.as_deref().unwrap_or("(without a name)")).collect()
    }
}

impl Endpoint {
    fn server(&self, address_type: &str, port: u16) -> Result<Found, String> {
        let text = self.addresses.first().ok_or("an endpoint has no address")?;
        let ip: IpAddr = match address_type {
            "IPv4" => text.parse().map(IpAddr::V4).ok(),
            "IPv6" => text.parse().map(IpAddr::V6).ok(),
            "FQDN" => {
                return Err("slices of host names (FQDN) are not read; use dns: for them".into());
            }
            other => return Err(format!("addressType is {other:?}, not IPv4 or IPv6")),
        }
        .ok_or_else(|| format!("the endpoint {text:?} is no {address_type} address"))?;
        let called = self.target_ref.as_ref().and_then(|target| target.name.as_ref());
        let called = called.or(self.hostname.as_ref()).filter(|name| is_name(name));
        Ok(Found {
            offer: self.conditions.unwrap_or_default().offer(),
            name: called.cloned(),
            ..Found::at(SocketAddr::new(ip, port))
        })
    }
}

impl From<api::EndpointSlice> for Slice {
    fn from(slice: api::EndpointSlice) -> Self {
        let endpoint = |endpoint: api::Endpoint| Endpoint {
            addresses: endpoint.addresses,
            conditions: endpoint.conditions.map(|conditions| Conditions {
                ready: conditions.ready,
                serving: conditions.serving,
                terminating: conditions.terminating,
            }),
            hostname: endpoint.hostname,
            target_ref: endpoint.target_ref.map(|target| Reference { name: target.name }),
        };
        let port = |port: api::EndpointPort| Port {
            name: port.name,
            number: port.port.and_then(|number| u16::try_from(number).ok()),
            protocol: port.protocol,
        };
        Self {
            address_type: slice.address_type,
            endpoints: slice.endpoints.map(|all| all.into_iter().map(endpoint).collect()),
            ports: slice.ports.map(|ports| ports.into_iter().map(port).collect()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn slice(text: &str) -> Slice {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn conditions_are_read_as_the_api_says() {
        let (yes, no) = (Some(true), Some(false));
        for (ready, serving, terminating, expected) in [
            (None, None, None, Offer::Ready),
            (yes, None, None, Offer::Ready),
            (yes, yes, no, Offer::Ready),
            (no, None, None, Offer::Out),
            (no, no, no, Offer::Out),
            (no, yes, yes, Offer::Draining),
            (no, no, yes, Offer::Out),
            (no, None, yes, Offer::Out),
            // publishNotReadyAddresses.
            (yes, yes, yes, Offer::Ready),
            (yes, no, yes, Offer::Out),
            (None, yes, yes, Offer::Draining),
            (None, None, yes, Offer::Draining),
        ] {
            let conditions = Conditions { ready, serving, terminating };
            assert_eq!(conditions.offer(), expected, "{conditions:?}");
        }
    }

    proptest! {
        /// Whoever does not serve gets nothing, and new connections go to the ready alone.
        #[test]
        fn no_condition_lets_in_who_is_not_ready(
            ready in any::<Option<bool>>(), serving in any::<Option<bool>>(),
            terminating in any::<Option<bool>>(),
        ) {
            let offer = Conditions { ready, serving, terminating }.offer();
            if ready == Some(false) {
                prop_assert_ne!(offer, Offer::Ready);
            }
            if serving == Some(false) {
                prop_assert_eq!(offer, Offer::Out);
            }
        }
    }

    const TWO_PORTS: &str = r#"{
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.1.0.7", "10.1.0.8"], "targetRef": { "kind": "Pod", "name": "web-7d4b9c-x2x5z" } },
            { "addresses": ["10.1.0.9"], "hostname": "web-1", "conditions": { "ready": false } }
        ],
        "ports": [
            { "name": "http", "port": 8080, "protocol": "TCP" },
            { "name": "metrics", "port": 9090 },
            { "name": "dns", "port": 53, "protocol": "UDP" }
        ]
    }"#;

    #[test]
    fn servers_are_at_the_port_that_is_meant() {
        let two = [slice(TWO_PORTS)];
        let found = servers(&two, Some("http"), Protocol::Tcp).unwrap();
        assert_eq!(found.len(), 2, "what comes after the first address means nothing");
        assert_eq!(found[0].address, "10.1.0.7:8080".parse().unwrap());
        assert_eq!(found[0].name.as_deref(), Some("web-7d4b9c-x2x5z"));
        assert_eq!((found[1].name.as_deref(), found[1].offer), (Some("web-1"), Offer::Out));
        let udp = servers(&two, None, Protocol::Udp).unwrap();
        assert_eq!(udp[0].address.port(), 53, "the only one of the protocol");
        let error = servers(&two, None, Protocol::Tcp).unwrap_err();
        assert!(error.contains("http, metrics"), "{error}");
        let error = servers(&two, Some("https"), Protocol::Tcp).unwrap_err();
        assert!(error.contains("\"https\"") && error.contains("http, metrics"), "{error}");
        // Not every slice of a service has to have it.
        let other = slice(
            r#"{ "addressType": "IPv4", "ports": [{ "name": "x", "port": 1 }], "endpoints": [
            { "addresses": ["10.1.0.1"] }] }"#,
        );
        assert_eq!(
            servers(&[other, two[0].clone()], Some("http"), Protocol::Tcp).unwrap().len(),
            2
        );
        assert_eq!(servers(&[], Some("http"), Protocol::Tcp), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_a_server_is_told() {
        for (text, says) in [
            (r#"{ "addressType": "FQDN", "endpoints": [{ "addresses": ["a.b"] }] }"#, "FQDN"),
            (r#"{ "addressType": "IPX", "endpoints": [{ "addresses": ["a.b"] }] }"#, "IPX"),
            (r#"{ "addressType": "IPv4", "endpoints": [{ "addresses": ["::1"] }] }"#, "::1"),
            (r#"{ "addressType": "IPv4", "endpoints": [{ "addresses": [] }] }"#, "no address"),
        ] {
            let error = servers(&[slice(text)], None, Protocol::Tcp).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
