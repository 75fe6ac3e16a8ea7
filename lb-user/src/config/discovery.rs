//! `discover` and `[discovery]`: where backends come from that the text does not name. Who asks there is not known
//! here.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decode::is_name;

/// `[discovery]`: how all sources are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discovery {
    /// The DNS servers that are asked; empty: those of the host's `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// The kubeconfig that says how Kubernetes' API is reached; `None`: as its other programs find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
}

/// What is asked for the backends of a service. Written and shown as one text, by which it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiscoverySource {
    /// `dns:NAME:PORT`: the addresses of a name (A, AAAA).
    Dns {
        /// The name.
        name: String,
        /// The port of each address.
        port: u16,
    },
    /// `dns:_SERVICE._PROTOCOL.NAME`: servers with their ports, weights and priorities (SRV, RFC 2782).
    Srv {
        /// The name.
        name: String,
    },
    /// `file:PATH` or `file:PATH:PORT`: `EndpointSlices` in a file.
    File {
        /// The file, as it is written.
        path: PathBuf,
        /// The name of the port; `None`: there is one alone.
        port: Option<String>,
    },
    /// `kubernetes:NAMESPACE/SERVICE` or `kubernetes:NAMESPACE/SERVICE:PORT`: the `EndpointSlices` of a service.
    Kubernetes {
        /// The namespace.
        namespace: String,
        /// The service.
        service: String,
        /// The name of the port; `None`: there is one alone.
        port: Option<String>,
    },
}

/// Text that is no [`DiscoverySource`]: what is wrong, as a predicate, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {says}; {remedy}")]
pub struct NotASource {
    text: String,
    /// What is wrong with it.
    pub says: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The longest name in the DNS, as text (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const FORMS: &str = "write \"dns:web.internal:8080\", \"dns:_http._tcp.web.internal\", \
                     \"file:/etc/evenkeel/web.json\" or \"kubernetes:namespace/service\"";

impl FromStr for DiscoverySource {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let wrong = |says: &str, remedy| NotASource {
            text: text.to_owned(),
            says: says.to_owned(),
            remedy,
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(wrong("names no kind of source", FORMS));
        };
        match scheme {
            "dns" | "dns+srv" if rest.starts_with('_') || scheme == "dns+srv" => {
                const SRV: &str =
                    "write it like \"dns:_http._tcp.web.internal\"; the records say the ports";
                let labels: Vec<&str> = rest.split('.').collect();
                let service = |label: &&str| label.len() > 1 && label.starts_with('_');
                if !is_domain(rest) || labels.len() < 3 || !labels.iter().take(2).all(service) {
                    return Err(wrong("is not the name of SRV records", SRV));
                }
                Ok(Self::Srv { name: rest.to_owned() })
            }
            "dns" => {
                const DNS: &str =
                    "write it like \"dns:web.internal:8080\", with a port of 1 to 65535";
                let Some((name, port)) = rest.rsplit_once(':') else {
                    return Err(wrong("has no port", DNS));
                };
                if !is_domain(name) {
                    return Err(wrong("has no name that the DNS could know", DNS));
                }
                match port.parse() {
                    Ok(port) if port > 0 => Ok(Self::Dns { name: name.to_owned(), port }),
                    _ => Err(wrong("has no usable port", DNS)),
                }
            }
            "file" => {
                let (path, port) = with_port(rest);
                if path.is_empty() || path.ends_with('/') {
                    return Err(wrong(
                        "names no file",
                        "write it like \"file:/etc/evenkeel/web.json\"",
                    ));
                }
                Ok(Self::File { path: path.into(), port })
            }
            "kubernetes" => {
                let (name, port) = with_port(rest);
                let parts = name.split_once('/').filter(|(a, b)| is_label(a) && is_label(b));
                let Some((namespace, service)) = parts else {
                    const REMEDY: &str = "write it like \"kubernetes:default/web\", or \"kubernetes:default/web:http\" with a port's name";
                    return Err(wrong("is not a namespace and a service", REMEDY));
                };
                let (namespace, service) = (namespace.to_owned(), service.to_owned());
                Ok(Self::Kubernetes { namespace, service, port })
            }
            _ => Err(wrong("is of no kind that is known", FORMS)),
        }
    }
}

impl fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::Dns { name, port } => return write!(f, "dns:{name}:{port}"),
            Self::Srv { name } => return write!(f, "dns:{name}"),
            Self::File { path, port } => {
                write!(f, "file:{}", path.display())?;
                port
            }
            Self::Kubernetes { namespace, service, port } => {
                write!(f, "kubernetes:{namespace}/{service}")?;
                port
            }
        };
        port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for DiscoverySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DiscoverySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a backend comes from that the text does not name, and what is said of it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The source.
    pub source: DiscoverySource,
    /// What it says.
    #[serde(skip)]
    pub offer: Offer,
}

/// What a source says that a backend does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offer {
    /// It takes new connections, as far as probes agree.
    #[default]
    Ready,
    /// It finishes those that it has.
    Draining,
    /// It serves nobody.
    Out,
}

/// A path or name, and the name of a port behind it: a DNS label, so that a file's name with a colon is still one.
fn with_port(text: &str) -> (&str, Option<String>) {
    match text.rsplit_once(':') {
        Some((rest, port)) if is_label(port) => (rest, Some(port.to_owned())),
        _ => (text, None),
    }
}

/// A label of RFC 1123, as Kubernetes names things.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name in the DNS; underscores are let through, since some have them.
fn is_domain(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    text.len() <= LONGEST_NAME
        && labels.split('.').all(|label| {
            is_name(label.trim_start_matches('_')) && !label.ends_with('-') && label.len() <= 63
        })
        // An address needs no discovery.
        && !labels.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_shown_as_they_are_read() {
        for text in [
            "dns:web.internal:8080",
            "dns:web:1",
            "dns:web.internal.:65535",
            "dns:_http._tcp.web.internal",
            "file:/etc/evenkeel/web.json",
            "file:web.yaml:http",
            "file:/srv/odd:name.json",
            "kubernetes:default/web",
            "kubernetes:default/web:http-alt",
        ] {
            assert_eq!(text.parse::<DiscoverySource>().unwrap().to_string(), text);
        }
        let long = "dns+srv:_http._tcp.web.internal".parse::<DiscoverySource>().unwrap();
        assert_eq!(long.to_string(), "dns:_http._tcp.web.internal", "one way to write it is kept");
    }

    #[test]
    fn what_is_no_source_is_told_with_the_way_out() {
        for (text, says) in [
            ("web.internal:8080", "of no kind"),
            ("web", "no kind"),
            ("dns:web.internal", "no port"),
            ("dns:web.internal:0", "usable port"),
            ("dns:web.internal:70000", "usable port"),
            ("dns:10.0.0.1:80", "no name"),
            ("dns:-a.b:80", "no name"),
            ("dns:_http.web", "SRV"),
            ("dns+srv:web.internal.example", "SRV"),
            ("file:", "no file"),
            ("file:/etc/", "no file"),
            ("kubernetes:web", "namespace"),
            ("kubernetes:Default/web", "namespace"),
            ("consul:web", "of no kind"),
        ] {
            let error = text.parse::<DiscoverySource>().unwrap_err();
            assert!(error.says.contains(says), "{text}: {error}");
        }
    }
}
