//! From text to raw values: every value typed and spanned, every error collected. What needs more
//! than one value to judge belongs to [`super::rules`].

mod alerts;
mod announce;
mod availability;
mod discovery;
mod health;
mod http;
mod meaning;
mod prefixes;
mod section;
mod service;
mod shape;
mod store;
mod traffic;
mod values;
mod verify;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub(crate) use self::values::is_name;
pub(super) use self::{
    announce::RawAnnounce,
    health::kinds_of,
    prefixes::{Entry, Place, PrefixFiles, RawPrefixes},
    section::MOST_SAID,
    shape::{Absent, Form, Key, Shape},
    values::nearest,
};
use self::{
    section::Section,
    shape::{
        Absent::{Is, Means, Refused},
        key, names,
    },
};
use super::{
    alerts::Alerts,
    choices::{Forwarding, Overload, Protocol, Scheduler, Tier, XdpMode},
    diagnostic::Sink,
    discovery::{Discovery, DiscoverySource},
    http::Http,
    model::{Availability, HealthCheck, Limits, PortRange, Tables, Timeouts},
    prefix::Prefix,
    store::Store,
    verify::Verify,
};

/// A decoded text. A value that could not be decoded is missing here and has its error in the
/// sink; what has a default has it already.
pub(super) struct RawConfig {
    pub(super) interfaces: Vec<Spanned<String>>,
    pub(super) source_addresses: Vec<Spanned<IpAddr>>,
    pub(super) source_ports: Option<Spanned<PortRange>>,
    pub(super) tunnel_sources: Vec<Spanned<Prefix>>,
    pub(super) tables: Tables,
    http: Http,
    verify: Verify,
    alerts: Alerts,
    store: Option<Store>,
    discovery: Discovery,
    /// `None`: there is no valid `[node]`.
    pub(super) prefixes: Option<RawPrefixes>,
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
    /// Where more of them come from.
    pub(super) discover: Vec<DiscoverySource>,
    /// `None`: it could not be decoded.
    pub(super) scheduler: Option<Scheduler>,
    pub(super) table_size: u32,
    /// Where it stands, or else the header.
    pub(super) table_size_span: Range<usize>,
    /// `None`: it could not be decoded.
    pub(super) forwarding: Option<Forwarding>,
    /// `None`: its address is not announced.
    pub(super) announce: Option<RawAnnounce>,
    pub(super) prefixes: RawPrefixes,
    pub(super) availability: Availability,
    /// Where `min_active` stands, or else the header.
    pub(super) min_active_span: Range<usize>,
    snat: bool,
    gue_port: u16,
    sticky: Option<Duration>,
    overload: Overload,
    timeouts: Timeouts,
    limits: Limits,
    expected_connections: Option<u32>,
}

pub(super) struct RawBackend {
    pub(super) span: Range<usize>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<SocketAddr>>,
    pub(super) weight: Option<u16>,
    pub(super) tier: Tier,
    pub(super) max_connections: Option<u32>,
    pub(super) capacity: Option<Spanned<u32>>,
}

/// The whole text.
pub(super) const ROOT: Shape = Shape {
    header: "the configuration",
    keys: &[
        key("node", Form::Table(&NODE), Refused, "the host: where traffic enters, and whose"),
        key(
            "nat",
            Form::Table(&NAT),
            Means("its defaults"),
            "what backends see as the client, with `forwarding = \"nat\"`",
        ),
        key(
            "tunnel",
            Form::Table(&TUNNEL),
            Means("its defaults"),
            "where the packets of `ipip` come from",
        ),
        key(
            "tables",
            Form::Table(&TABLES),
            Means("its defaults"),
            "how many entries the kernel's tables hold. All memory is taken at the start; changing them needs a new data path (stop, `evenkeel detach`, start)",
        ),
        key(
            "http",
            Form::Table(&http::HTTP),
            Means("its defaults"),
            "where metrics and the dashboard are",
        ),
        key(
            "verify",
            Form::Table(&verify::VERIFY),
            Means("its defaults"),
            "what `evenkeel verify` sends, and what it lets pass",
        ),
        key(
            "alerts",
            Form::Table(&alerts::ALERTS),
            Means(
                "its defaults; nobody is told beside `evenkeel alerts`, `status`, the log and `/metrics`",
            ),
            "when alerts rise, and where they go; see [Alerts](alerts.md) for each kind",
        ),
        key(
            "announce",
            Form::Table(&announce::ANNOUNCE),
            Means("nothing is announced"),
            "how the services' addresses are announced to routers, and when; see [Announcing](../announce.md)",
        ),
        key(
            "store",
            Form::Table(&store::STORE),
            Means("this file alone"),
            "an etcd that edges share their services in; see [One configuration for all edges](../fleet.md)",
        ),
        key(
            "discovery",
            Form::Table(&discovery::DISCOVERY),
            Means("its defaults"),
            "how the sources of `discover` are asked; see [Discovery](../discovery.md)",
        ),
        key(
            "service",
            Form::Tables(&service::SERVICE),
            Means("nothing is balanced"),
            "a virtual address with its backends",
        ),
    ],
    later: &[],
};
const NODE: Shape = Shape {
    header: "[node]",
    keys: &[
        key(
            "interfaces",
            Form::Words("list of interface names"),
            Refused,
            "every NIC that traffic enters by: clients' and backends'. Changing it needs a restart, which loses no connection",
        ),
        key(
            "xdp_mode",
            Form::Choice(names::<XdpMode>),
            Is("\"auto\""),
            "`native` in the driver or not at all, `generic` in the kernel's slower hook, or native where the driver can",
        ),
        ALLOW,
        ALLOW_FILE,
        DENY,
        DENY_FILE,
    ],
    later: &[],
};
const ALLOW: Key = key(
    "allow",
    Form::Words("list of prefixes"),
    Means("everybody"),
    "who may open connections; of all prefixes that match, the longest decides",
);
const ALLOW_FILE: Key = key(
    "allow_file",
    Form::Words("file name"),
    Means("no file"),
    "more of them, one a line, `#` begins a comment; a relative path starts at the configuration's folder",
);
const DENY: Key = key("deny", Form::Words("list of prefixes"), Means("nobody"), "who may not");
const DENY_FILE: Key = key(
    "deny_file",
    Form::Words("file name"),
    Means("no file"),
    "more of them, as for `allow_file`",
);
const NAT: Shape = Shape {
    header: "[nat]",
    keys: &[
        key(
            "source_addresses",
            Form::Words("list of addresses, up to 8 of each family"),
            Means("the host's own address towards the backend"),
            "addresses that backends see as the client",
        ),
        key(
            "source_ports",
            Form::Words("range of ports, 1 to 65535"),
            Is("\"1024-32767\""),
            "their ports; keep them off the host's own ephemeral ports (`net.ipv4.ip_local_port_range`)",
        ),
    ],
    later: &[],
};
const TUNNEL: Shape = Shape {
    header: "[tunnel]",
    keys: &[key(
        "source_prefixes",
        Form::Words("list of prefixes, one of each family, of length 8 or more"),
        Is("[\"198.18.0.0/16\", \"100::/64\"]"),
        "outer source addresses of `ipip`: the bits after the prefix vary with the flow",
    )],
    later: &[],
};
const TABLES: Shape = Shape {
    header: "[tables]",
    keys: &[
        key(
            "connections",
            Form::Integer(1, MOST_CONNECTIONS),
            Is("262144"),
            "connections of each address family",
        ),
        key(
            "unconfirmed",
            Form::Words("power of two, 1 to 16777216"),
            Is("131072"),
            "connections without a complete handshake, of each address family, beside those",
        ),
        key(
            "clients",
            Form::Integer(1, MOST_CLIENTS),
            Is("65536"),
            "clients remembered for `sticky` and `limits`, of each address family",
        ),
        key(
            "fragments",
            Form::Integer(1, MOST_FRAGMENTS),
            Is("16384"),
            "packets whose fragments are under way, of each address family",
        ),
        key(
            "prefixes",
            Form::Integer(1, MOST_PREFIXES),
            Is("131072"),
            "prefixes of `allow` and `deny`, over the node and all services",
        ),
        key("services", Form::Integer(1, MOST_SERVICES), Is("4096"), "services"),
        key(
            "backends",
            Form::Integer(1, MOST_BACKENDS),
            Is("16384"),
            "backends, over all services",
        ),
    ],
    later: &[],
};
const MOST_CONNECTIONS: u32 = 1 << 26;
const MOST_UNCONFIRMED: u32 = 1 << 24;
const MOST_CLIENTS: u32 = 1 << 24;
const MOST_FRAGMENTS: u32 = 1 << 20;
const MOST_PREFIXES: u32 = 1 << 24;
const MOST_SERVICES: u32 = 1 << 16;
const MOST_BACKENDS: u32 = 1 << 16;

/// Decodes the text behind `sink` and the `files` that it names; `None` when it is not TOML.
pub(super) fn document(sink: &mut Sink<'_, '_>, files: &mut PrefixFiles<'_>) -> Option<RawConfig> {
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
        tunnel_sources: Vec::new(),
        tables: Tables::default(),
        http: http::decode(sink, &root),
        verify: verify::decode(sink, &root),
        alerts: alerts::decode(sink, &root, files.folder()),
        store: store::decode(sink, &root, files.folder()),
        discovery: discovery::decode(sink, &root, files.folder()),
        prefixes: None,
        services: Vec::new(),
        xdp_mode: XdpMode::default(),
    };
    if let Some(tables) = root.table(sink, "tables", &TABLES, None) {
        decode_tables(sink, &tables, &mut raw.tables);
    }
    files.set_room(raw.tables.prefixes);
    if !root.has("node") {
        let remedy = "add [node] with interfaces = [\"eth0\"], the interfaces traffic enters by";
        sink.error(&(0..0), "[node] is missing", remedy);
    }
    if let Some(node) = root.table(sink, "node", &NODE, None) {
        decode_node(sink, &node, &mut raw);
        raw.prefixes = Some(files.decode(sink, &node));
    }
    if let Some(nat) = root.table(sink, "nat", &NAT, None) {
        raw.source_addresses =
            nat.list(sink, "source_addresses", values::ip_address).unwrap_or_default();
        raw.source_ports = nat.value(sink, "source_ports", values::port_range);
    }
    if let Some(tunnel) = root.table(sink, "tunnel", &TUNNEL, None) {
        raw.tunnel_sources =
            tunnel.list(sink, "source_prefixes", values::source_prefix).unwrap_or_default();
    }
    let announce = announce::decode(sink, &root, files.folder());
    raw.services = service::decode_all(sink, &root, announce.as_ref(), files);
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
    tables.unconfirmed = section.value_or(
        sink,
        "unconfirmed",
        |v| values::power_of_two(v, MOST_UNCONFIRMED),
        tables.unconfirmed,
    );
    let mut read = |key, most, place: &mut u32| {
        *place = section.value_or(sink, key, |v| values::integer(v, 1, most), *place);
    };
    read("connections", MOST_CONNECTIONS, &mut tables.connections);
    read("clients", MOST_CLIENTS, &mut tables.clients);
    read("fragments", MOST_FRAGMENTS, &mut tables.fragments);
    read("prefixes", MOST_PREFIXES, &mut tables.prefixes);
    read("services", MOST_SERVICES, &mut tables.services);
    read("backends", MOST_BACKENDS, &mut tables.backends);
}

impl RawService {
    /// How messages name the service.
    pub(super) fn title(&self) -> String {
        title("service", self.name.as_ref())
    }
}

impl RawBackend {
    /// How messages name the backend.
    pub(super) fn title(&self) -> String {
        title("backend", self.name.as_ref())
    }
}

/// The file that `key` names, from `folder` on; where there is one, it must be there.
fn file_of(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    key: &str,
    folder: Option<&Path>,
    remedy: &str,
) -> Option<PathBuf> {
    let name = section.value(sink, key, values::string_of)?;
    let (span, name) = (name.span(), name.into_inner());
    let Some(folder) = folder else { return Some(name.into()) };
    let path = folder.join(name);
    if !path.is_file() {
        let message = format!("{key} {} is {}, no file", section.subject(), path.display());
        sink.error(&span, message, remedy);
    }
    Some(path)
}

fn title(what: &str, name: Option<&Spanned<String>>) -> String {
    name.map_or_else(|| format!("this {what}"), |name| format!("{what} {:?}", name.get_ref()))
}
