//! Reading the facts: /proc, the kernel's answers, sockets. No judgement is here.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use procfs::{Current as _, net::TcpState};
use tokio::{sync::mpsc, time::timeout};

use super::{
    backends::Ways,
    interface::Interface,
    kernel::{Kernel, Program},
    links,
    memory::Memory,
    places::{Bpffs, Directory, Places},
    ports::{Ports, Transport},
    routing::{Parameters, Routing},
};
use crate::{
    config::{Config, Tables},
    daemon::Paths,
    loader::{self, Pins, is_bpffs},
    nexthop::{Resolver, Unresolved},
};

/// How long neighbours have to answer: the kernel asks three times, a second apart.
const PATIENCE: Duration = Duration::from_millis(3500);
/// How much longer for each backend: routes are asked for one by one.
const EACH: Duration = Duration::from_millis(1);
/// How long a way that is not known is waited for once all others are.
const SETTLED: Duration = Duration::from_millis(1500);

/// The helpers that the program calls; `lb-ebpf` is their source.
const HELPERS: [(BpfHelper, &str); 9] = [
    (BpfHelper::BPF_FUNC_redirect, "bpf_redirect"),
    (BpfHelper::BPF_FUNC_xdp_adjust_head, "bpf_xdp_adjust_head"),
    (BpfHelper::BPF_FUNC_xdp_adjust_tail, "bpf_xdp_adjust_tail"),
    (BpfHelper::BPF_FUNC_fib_lookup, "bpf_fib_lookup"),
    (BpfHelper::BPF_FUNC_jiffies64, "bpf_jiffies64"),
    (BpfHelper::BPF_FUNC_ktime_get_ns, "bpf_ktime_get_ns"),
    (BpfHelper::BPF_FUNC_get_prandom_u32, "bpf_get_prandom_u32"),
    (BpfHelper::BPF_FUNC_ringbuf_reserve, "bpf_ringbuf_reserve"),
    (BpfHelper::BPF_FUNC_check_mtu, "bpf_check_mtu"),
];

/// The kinds of its tables.
const MAPS: [(MapType, &str); 7] = [
    (MapType::Array, "arrays"),
    (MapType::Hash, "hash tables"),
    (MapType::LruHash, "LRU hash tables"),
    (MapType::PerCpuArray, "per-CPU arrays"),
    (MapType::ArrayOfMaps, "arrays of maps"),
    (MapType::LpmTrie, "longest-prefix tries"),
    (MapType::RingBuf, "ring buffers"),
];

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the configuration is looked for.
    pub config_path: PathBuf,
    /// The configuration, where there is a valid one.
    pub config: Option<Config>,
    /// Why there is none, where there is a file.
    pub invalid: Option<String>,
    /// Whether that is because we may not read it, and root may.
    pub unreadable: bool,
    /// Processors.
    pub cpus: usize,
    /// The kernel.
    pub(super) kernel: Kernel,
    /// Memory.
    pub(super) memory: Memory,
    /// The interfaces that matter: the configured ones, or else all Ethernet interfaces that are up.
    pub(super) interfaces: Vec<Interface>,
    /// Kernel parameters of these.
    pub(super) routing: Routing,
    /// The ways to the backends.
    pub(super) next_hops: Ways,
    /// The host's own ports.
    pub(super) ports: Ports,
    /// What the daemon writes to.
    pub(super) places: Places,
}

impl Facts {
    /// Reads them, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Where netlink cannot be opened.
    pub async fn read(paths: &Paths) -> Result<Self> {
        let pins = Pins::new(&paths.bpffs);
        let all = links::read(&pins).await?;
        let (config, invalid) = configuration(&paths.config, &all);
        let interfaces = chosen(all.clone(), config.as_ref());
        let next_hops = match &config {
            Some(config) => ways(config, &all).await,
            None => Ways::new(),
        };
        let as_root = rustix::process::geteuid().is_root();
        let names = interfaces.iter().map(|link| link.name.as_str());
        let routing = Routing { interfaces: names.map(parameters).collect() };
        let own = next_hops.values().flatten().filter_map(|(hop, _)| hop.preferred_source);
        Ok(Self {
            config_path: paths.config.clone(),
            unreadable: !as_root && config.is_none() && fs::read(&paths.config).is_err(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel(as_root),
            memory: memory(config.as_ref(), &pins),
            routing,
            ports: ports(own.collect()),
            places: places(paths, as_root),
            config,
            invalid,
            interfaces,
            next_hops,
        })
    }
}

fn configuration(path: &Path, all: &[Interface]) -> (Option<Config>, Option<String>) {
    if matches!(path.try_exists(), Ok(false)) {
        return (None, None);
    }
    match Config::load(path) {
        Ok(loaded) => {
            let missing = |name: &&String| !all.iter().any(|link| link.name == **name);
            match loaded.config.node.interfaces.iter().find(missing) {
                Some(name) => {
                    (None, Some(format!("interface {name:?} does not exist on this host")))
                }
                None => (Some(loaded.config), None),
            }
        }
        Err(invalid) => {
            let first = invalid.diagnostics.first().map_or_else(String::new, ToString::to_string);
            (None, Some(format!("invalid: {first}")))
        }
    }
}

/// The configured interfaces; without a configuration the ones that traffic may come by.
fn chosen(all: Vec<Interface>, config: Option<&Config>) -> Vec<Interface> {
    if let Some(config) = config {
        let names = &config.node.interfaces;
        return all.into_iter().filter(|link| names.contains(&link.name)).collect();
    }
    let usable = |link: &Interface| {
        link.ethernet && link.up && link.carrier && link.vlan_of.is_none() && !link.bonded
    };
    // Bridges and cables of containers are of no interest where there is a real card.
    let real = |link: &Interface| matches!(link.kind.as_deref(), None | Some("bond"));
    let any_real = all.iter().any(|link| usable(link) && real(link));
    all.into_iter().filter(|link| usable(link) && (real(link) || !any_real)).collect()
}

/// Asks for the ways to all backends, and gives neighbours time to answer.
async fn ways(config: &Config, all: &[Interface]) -> Ways {
    let targets: BTreeSet<IpAddr> = config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(|backend| backend.address.ip()))
        .collect();
    let mut ways = Ways::new();
    if targets.is_empty() {
        return ways;
    }
    let (sender, mut updates) = mpsc::channel(256);
    let (resolver, _task) = Resolver::start(sender, mpsc::channel(1).0);
    let wanted = targets.len();
    resolver.set_targets(targets);
    let listen = async {
        loop {
            let settled = ways.len() == wanted;
            let silent = |way: &Result<_, _>| matches!(way, Err(Unresolved::NoNeighbour { .. }));
            if settled && !ways.values().any(silent) {
                return;
            }
            let update = if settled {
                let Ok(update) = timeout(SETTLED, updates.recv()).await else { return };
                update
            } else {
                updates.recv().await
            };
            let Some(update) = update else { return };
            let way = update.next_hop.map(|hop| {
                let name = all.iter().find(|link| link.index == hop.ifindex);
                (hop, name.map_or_else(|| hop.ifindex.to_string(), |link| link.name.clone()))
            });
            ways.insert(update.target, way);
        }
    };
    // What is known by then is what there is to say.
    let _ = timeout(PATIENCE + EACH * u32::try_from(wanted).unwrap_or(u32::MAX), listen).await;
    ways
}

fn kernel(as_root: bool) -> Kernel {
    let release = line("/proc/sys/kernel/osrelease").unwrap_or_default();
    Kernel {
        too_old: loader::check_kernel(&release).err().map(|error| error.to_string()),
        release,
        program: if as_root { program() } else { Program::NotTried },
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        jit_harden: number("/proc/sys/net/core/bpf_jit_harden"),
        unprivileged: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }
}

/// Has the kernel take the program over the smallest of tables.
fn program() -> Program {
    let tables = Tables {
        connections: 64,
        unconfirmed: 64,
        clients: 64,
        fragments: 64,
        prefixes: 64,
        services: 64,
        backends: 64,
    };
    let error = match loader::load_unpinned(&tables) {
        Ok(datapath) => {
            let info = datapath.programs.balancer().and_then(|program| Ok(program.info()?));
            let compiled = info.is_ok_and(|info| info.size_jitted() > 0);
            return Program::Loads { compiled };
        }
        Err(error) => error,
    };
    // Root without its capabilities, as in most containers.
    let refused = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if refused.into_iter().any(|cause| cause.raw_os_error() == Some(libc::EPERM)) {
        return Program::NotTried;
    }
    let mut lacks = Vec::new();
    if matches!(is_program_supported(ProgramType::Xdp), Ok(false)) {
        lacks.push("XDP programs".to_owned());
    }
    for (map, name) in MAPS {
        if matches!(is_map_supported(map), Ok(false)) {
            lacks.push(name.to_owned());
        }
    }
    for (helper, name) in HELPERS {
        if matches!(is_helper_supported(ProgramType::Xdp, helper), Ok(false)) {
            lacks.push(format!("the helper {name}"));
        }
    }
    Program::Refused { error: format!("{error:#}"), lacks }
}

fn memory(config: Option<&Config>, pins: &Pins) -> Memory {
    let tables = config.map(|config| config.tables).unwrap_or_default();
    let info = procfs::Meminfo::current().ok();
    Memory {
        needed: loader::memory(&tables),
        taken: pins.map(lb_common::names::CONNECTIONS_V4).exists(),
        available: info.and_then(|info| info.mem_available),
    }
}

fn parameters(name: &str) -> Parameters {
    let of = |family: &str, interface: &str, key: &str| {
        number(Path::new("/proc/sys/net").join(family).join("conf").join(interface).join(key))
    };
    let larger = |key: &str| of("ipv4", name, key).max(of("ipv4", "all", key));
    Parameters {
        name: name.to_owned(),
        rp_filter: larger("rp_filter"),
        forwards_v4: of("ipv4", name, "forwarding").map(|on| on != 0),
        forwards_v6: of("ipv6", name, "forwarding").map(|on| on != 0),
        accept_local: larger("accept_local").map(|on| on != 0),
        no_ipv6: of("ipv6", name, "disable_ipv6").map(|off| off != 0),
    }
}

fn ports(own: BTreeSet<IpAddr>) -> Ports {
    let mut ports = Ports {
        ephemeral: line("/proc/sys/net/ipv4/ip_local_port_range").and_then(|line| {
            let (low, high) = line.split_once(char::is_whitespace)?;
            Some((low.parse().ok()?, high.trim().parse().ok()?))
        }),
        reserved: line("/proc/sys/net/ipv4/ip_local_reserved_ports")
            .map(|line| line.split(',').filter_map(ports_of).collect())
            .unwrap_or_default(),
        own,
        ..Ports::default()
    };
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()];
    for socket in tcp.into_iter().flatten().flatten() {
        match socket.state {
            TcpState::Listen => ports.listening.push((Transport::Tcp, socket.local_address)),
            TcpState::TimeWait | TcpState::Close => {}
            _ => ports.connected.push((plain(socket.local_address), plain(socket.remote_address))),
        }
    }
    let udp = [procfs::net::udp(), procfs::net::udp6()];
    for socket in udp.into_iter().flatten().flatten() {
        ports.listening.push((Transport::Udp, socket.local_address));
    }
    ports
}

/// An IPv4 address of an IPv6 socket as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn ports_of(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
}

fn places(paths: &Paths, as_root: bool) -> Places {
    const USUAL: &str = "/sys/fs/bpf";
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let bpffs = if is_bpffs(&existing(&paths.bpffs)) {
        Bpffs::Mounted
    } else if paths.bpffs.starts_with(USUAL) {
        Bpffs::Mountable
    } else {
        Bpffs::Missing
    };
    let directory = |path: PathBuf, holds| {
        let there = existing(&path);
        let writable = rustix::fs::access(&there, rustix::fs::Access::WRITE_OK);
        let space = rustix::fs::statvfs(&there).ok();
        Directory {
            path: path.display().to_string(),
            holds,
            writable: writable.map_err(|error| error.to_string()),
            as_root,
            free: space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        }
    };
    Places {
        pins: (paths.bpffs.display().to_string(), bpffs),
        directories: vec![
            directory(paths.state_dir.clone(), "the daemon's state"),
            directory(folder(&paths.socket), "the API's socket"),
            directory(folder(&paths.config), "changes of the configuration"),
        ],
    }
}

/// The path, or the nearest directory above it that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: impl AsRef<Path>) -> Option<u8> {
    line(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(ports_of("8080"), Some((8080, 8080)));
        assert_eq!(ports_of("9000-9010"), Some((9000, 9010)));
        assert_eq!(ports_of(""), None);
    }

    #[test]
    fn this_host_has_ports_and_memory() {
        let ports = ports(BTreeSet::new());
        assert!(ports.ephemeral.is_some_and(|(low, high)| low < high), "{ports:?}");
        let memory = memory(None, &Pins::new(Path::new("/nowhere")));
        assert!(memory.available.is_some() && memory.needed > 1 << 20, "{memory:?}");
    }

    #[test]
    fn without_a_configuration_real_cards_are_examined() {
        let link = |name: &str, kind: Option<&str>, carrier| Interface {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            up: true,
            ethernet: true,
            carrier,
            ..Interface::default()
        };
        let names = |all: Vec<Interface>| -> Vec<String> {
            chosen(all, None).into_iter().map(|link| link.name).collect()
        };
        let bridge = || link("docker0", Some("bridge"), true);
        assert_eq!(names(vec![link("eth0", None, true), bridge()]), ["eth0"]);
        assert_eq!(names(vec![link("eth0", None, false), bridge()]), ["docker0"]);
        let config = crate::doctor::backends::tests::config("");
        let front = vec![link("front", Some("veth"), false), link("eth0", None, true)];
        assert_eq!(chosen(front, Some(&config))[0].name, "front");
    }

    #[test]
    fn a_place_that_is_not_there_is_judged_by_where_it_will_be() {
        assert_eq!(existing(Path::new("/proc/none/such")), Path::new("/proc"));
    }
}
