//! From text to raw values: every value typed and spanned, every error collected. What needs more
//! than one value to judge belongs to [`super::rules`].

mod health;
mod section;
mod service;
mod values;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::section::{Section, Shape};
pub(super) use self::values::nearest;
use super::{
    diagnostic::Sink,
    model::{
        Backend, Config, Forwarding, HealthCheck, Nat, Node, PortRange, Protocol, Scheduler,
        Service, Tables, Tier, XdpMode,
    },
};

/// A decoded text. A value that could not be decoded is missing here and has its error in the
/// sink; what has a default has it already.
pub(super) struct RawConfig {
    pub(super) interfaces: Vec<Spanned<String>>,
    pub(super) source_addresses: Vec<Spanned<IpAddr>>,
    pub(super) source_ports: Option<Spanned<PortRange>>,
    pub(super) tables: Tables,
    pub(super) services: Vec<RawService>,
    xdp_mode: XdpMode,
}

pub(super) struct RawService {
    /// The header, for what is said about the service as a whole.
    pub(super) span: Range<usize>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<SocketAddr>>,
    pub(super) protocol: Protocol,
    /// `None`: there is a probe, but it could not be decoded.
    pub(super) health: Option<HealthCheck>,
    pub(super) backends: Vec<RawBackend>,
    scheduler: Scheduler,
    forwarding: Forwarding,
}

pub(super) struct RawBackend {
    pub(super) span: Range<usize>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<SocketAddr>>,
    pub(super) weight: Option<u16>,
    tier: Tier,
}

const ROOT: Shape = Shape {
    header: "the configuration",
    keys: &["node", "nat", "tables", "service"],
    later: &["http"],
};
const NODE: Shape = Shape { header: "[node]", keys: &["interfaces", "xdp_mode"], later: &[] };
const NAT: Shape =
    Shape { header: "[nat]", keys: &["source_addresses", "source_ports"], later: &[] };
const TABLES: Shape =
    Shape { header: "[tables]", keys: &["connections", "services", "backends"], later: &[] };

/// Decodes the text behind `sink`; `None` when it is not TOML.
pub(super) fn document(sink: &mut Sink<'_, '_>) -> Option<RawConfig> {
    let (root, errors) = DeTable::parse_recoverable(sink.source.text);
    let mut lines = HashSet::new();
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        // What follows on the same line comes of the first.
        if lines.insert(sink.line(&span)) {
            sink.error(&span, error.message(), "correct the TOML at this place");
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let span = root.span();
    let root = Spanned::new(span, DeValue::Table(root.into_inner()));
    let root = Section::open(sink, &root, &ROOT, None)?;

    let mut raw = RawConfig {
        interfaces: Vec::new(),
        source_addresses: Vec::new(),
        source_ports: None,
        tables: Tables::default(),
        services: Vec::new(),
        xdp_mode: XdpMode::default(),
    };
    if !root.has("node") {
        let remedy = "add [node] with interfaces = [\"eth0\"], the interfaces traffic enters by";
        sink.error(&(0..0), "[node] is missing", remedy);
    }
    if let Some(node) = root.table(sink, "node", &NODE, None) {
        decode_node(sink, &node, &mut raw);
    }
    if let Some(nat) = root.table(sink, "nat", &NAT, None) {
        raw.source_addresses =
            nat.list(sink, "source_addresses", values::ip_address).unwrap_or_default();
        raw.source_ports = nat.value(sink, "source_ports", values::port_range);
    }
    if let Some(tables) = root.table(sink, "tables", &TABLES, None) {
        decode_tables(sink, &tables, &mut raw.tables);
    }
    raw.services = service::decode_all(sink, &root);
    Some(raw)
}

fn decode_node(sink: &mut Sink<'_, '_>, node: &Section<'_, '_>, raw: &mut RawConfig) {
    raw.xdp_mode = node.value_or(sink, "xdp_mode", values::choice, XdpMode::default());
    if !node.require(sink, "interfaces", "list the interfaces that traffic enters by: [\"eth0\"]") {
        return;
    }
    let span = node.span_of("interfaces");
    let Some(list) = node.list(sink, "interfaces", values::interface) else { return };
    if node.is_empty_list("interfaces") {
        let remedy = "list the interfaces that traffic enters by: [\"eth0\"]";
        sink.error(&span, "interfaces in [node] is empty", remedy);
    }
    raw.interfaces = list;
}

fn decode_tables(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, tables: &mut Tables) {
    const MOST_CONNECTIONS: u32 = 1 << 26;
    const MOST_SERVICES: u32 = 1 << 16;
    const MOST_BACKENDS: u32 = 1 << 16;
    let mut read = |key, most, place: &mut u32| {
        *place = section.value_or(sink, key, |v| values::integer(v, 1, most), *place);
    };
    read("connections", MOST_CONNECTIONS, &mut tables.connections);
    read("services", MOST_SERVICES, &mut tables.services);
    read("backends", MOST_BACKENDS, &mut tables.backends);
}

impl RawConfig {
    /// `None` when a required value is missing; its error is in the sink then.
    pub(super) fn into_config(self) -> Option<Config> {
        Some(Config {
            node: Node {
                interfaces: self.interfaces.into_iter().map(Spanned::into_inner).collect(),
                xdp_mode: self.xdp_mode,
            },
            nat: Nat {
                source_addresses: self
                    .source_addresses
                    .into_iter()
                    .map(Spanned::into_inner)
                    .collect(),
                source_ports: self.source_ports.map(Spanned::into_inner).unwrap_or_default(),
            },
            tables: self.tables,
            services: self
                .services
                .into_iter()
                .map(RawService::into_service)
                .collect::<Option<_>>()?,
        })
    }
}

impl RawService {
    fn into_service(self) -> Option<Service> {
        Some(Service {
            name: self.name?.into_inner(),
            address: self.address?.into_inner(),
            protocol: self.protocol,
            scheduler: self.scheduler,
            forwarding: self.forwarding,
            health: self.health?,
            backends: self
                .backends
                .into_iter()
                .map(RawBackend::into_backend)
                .collect::<Option<_>>()?,
        })
    }

    /// How messages name the service.
    pub(super) fn title(&self) -> String {
        title("service", self.name.as_ref())
    }
}

impl RawBackend {
    fn into_backend(self) -> Option<Backend> {
        Some(Backend {
            name: self.name?.into_inner(),
            address: self.address?.into_inner(),
            weight: self.weight?,
            tier: self.tier,
        })
    }

    /// How messages name the backend.
    pub(super) fn title(&self) -> String {
        title("backend", self.name.as_ref())
    }
}

fn title(what: &str, name: Option<&Spanned<String>>) -> String {
    name.map_or_else(|| format!("this {what}"), |name| format!("{what} {:?}", name.get_ref()))
}
