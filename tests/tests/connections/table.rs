//! A handful of real connections: listed field by field, filtered, sorted, counted, cut.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Output,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    http::{self, Connection},
    netns::Namespace,
    servers::{PORT, UdpEcho, ask, client_socket},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Host, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

/// The client's other address, for UDP.
const OTHER: &str = "198.51.100.77";

/// The connections of a test, open.
struct Clients {
    v4: Vec<Connection>,
    v6: Vec<Connection>,
    flows: Vec<UdpSocket>,
    other: UdpSocket,
}

impl Clients {
    /// Four over IPv4 and two over IPv6 to two web servers, and three UDP flows, one from [`OTHER`].
    fn open(client: &Namespace) -> Result<Self> {
        client.ip(&format!("addr add {OTHER}/24 dev eth0"))?;
        client.run(|| {
            let web = |family: Family, count| -> Result<Vec<_>> {
                let open = |_| {
                    let mut connection = Connection::open(family.service(80))?;
                    connection.get("/")?;
                    Ok(connection)
                };
                (0..count).map(open).collect()
            };
            let server = Family::V4.service(53);
            let flows: Vec<_> =
                (0..2).map(|_| client_socket(Family::V4, server)).collect::<Result<_>>()?;
            let other = UdpSocket::bind((OTHER, 0))?;
            other.connect(server)?;
            other.set_read_timeout(Some(http::DEADLINE))?;
            for socket in flows.iter().chain([&other]) {
                // The second one confirms the flow.
                ask(socket, b"first")?;
                ask(socket, b"second")?;
            }
            Ok(Self { v4: web(Family::V4, 4)?, v6: web(Family::V6, 2)?, flows, other })
        })
    }

    /// Every client's end, sorted.
    fn ends(&self) -> Vec<String> {
        let tcp = self.v4.iter().chain(&self.v6).map(|connection| connection.local().unwrap());
        let udp = self.flows.iter().chain([&self.other]);
        let all = tcp.chain(udp.map(|socket| socket.local_addr().unwrap()));
        let mut all: Vec<_> = all.map(|end| end.to_string()).collect();
        all.sort();
        all
    }
}

fn stage() -> (Stage, Vec<UdpEcho>) {
    let stage = Stage::new(Wiring::Switched, 2, |lab| {
        Settings::web(lab).with(Service::datagrams("dns", Family::V4).backends(lab))
    });
    let stage = stage.unwrap();
    let echoes = stage.lab.backends.iter().map(|host| UdpEcho::start(host).unwrap()).collect();
    (stage, echoes)
}

/// The listed connections, of which the document says how many they are.
fn list(balancer: &Balancer, filters: &[&str]) -> Vec<Value> {
    let document = balancer.json(&[&["connections", "list"], filters].concat()).unwrap();
    let connections = document["connections"].as_array().unwrap().clone();
    assert_eq!(document["shown"], connections.len(), "{document}");
    connections
}

fn clients(connections: &[Value]) -> Vec<String> {
    let client = |connection: &Value| connection["client"].as_str().unwrap().to_owned();
    connections.iter().map(client).collect()
}

fn count(balancer: &Balancer, filters: &[&str]) -> usize {
    list(balancer, filters).len()
}

/// Who talks to a backend's server over IPv4, as the backend's own kernel has it.
fn peers(host: &Host) -> Result<Vec<String>> {
    let table = host.namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp")?))?;
    let end = |text: &str| -> Option<SocketAddr> {
        let (address, port) = text.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::new(IpAddr::from(address), u16::from_str_radix(port, 16).ok()?))
    };
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local and remote end, and the state: 01 is ESTABLISHED.
    let ours = lines.filter(|fields| fields[3] == "01").filter_map(|fields| {
        let (local, remote) = (end(fields[1])?, end(fields[2])?);
        (local.port() == PORT).then(|| remote.to_string())
    });
    Ok(ours.collect())
}

#[test]
fn what_is_open_is_listed_as_it_is() {
    let (stage, _echoes) = stage();
    let open = Clients::open(stage.client()).unwrap();
    let balancer = &stage.balancer;

    let all = list(balancer, &["--sort", "client"]);
    let mut listed = clients(&all);
    listed.sort();
    assert_eq!(listed, open.ends());
    let lab = &stage.lab;
    for connection in &all {
        let service = connection["service"].as_str().unwrap();
        let (family, port, protocol) = match service {
            "web" => (Family::V4, 80, "tcp"),
            "web6" => (Family::V6, 80, "tcp"),
            _ => (Family::V4, 53, "udp"),
        };
        let host = lab.backends.iter().find(|host| connection["backend"] == *host.name).unwrap();
        assert_eq!(connection["destination"], family.service(port).to_string(), "{connection}");
        assert_eq!(connection["server"], host.address(family, PORT).to_string(), "{connection}");
        assert_eq!(connection["protocol"], protocol, "{connection}");
        assert_eq!(connection["state"], "established", "{connection}");
        assert_eq!(connection["forwarding"], "nat", "{connection}");
        assert!(connection["idle_seconds"].as_u64().unwrap() < 30, "{connection}");
        let source: SocketAddr = connection["source"].as_str().unwrap().parse().unwrap();
        assert_eq!(source.ip(), lab.inside(family), "{connection}");
    }
    // The backends' kernels see the very sources.
    for host in &lab.backends {
        let filters = ["--service", "web", "--backend", &host.name];
        let sources = list(balancer, &filters);
        let mut sources: Vec<_> =
            sources.iter().map(|c| c["source"].as_str().unwrap().to_owned()).collect();
        let mut seen = peers(host).unwrap();
        sources.sort();
        seen.sort();
        assert_eq!((sources.len(), sources), (2, seen), "{}", host.name);
    }

    for (filters, expected) in [
        (&["--service", "web"][..], 4),
        (&["--service", "web6"], 2),
        (&["--protocol", "udp"], 3),
        (&["--client", OTHER], 1),
        (&["--client", "198.51.100.0/24"], 7),
        (&["--client", "2001:db8::/32"], 2),
        (&["--client", "203.0.113.0/24"], 0),
        (&["--client", "198.51.100.0/24", "--protocol", "tcp"], 4),
        (&["--service", "web", "--backend", "web-01"], 2),
        (&["--backend", "web6/web-02"], 1),
        (&["--state", "established"], 9),
        (&["--state", "opening,closing"], 0),
        (&["--limit", "5"], 5),
        (&["--sort", "idle", "--limit", "3"], 3),
    ] {
        assert_eq!(count(balancer, filters), expected, "{filters:?}");
    }
    let backwards = clients(&list(balancer, &["--sort", "client", "--reverse"]));
    let mut forwards = clients(&all);
    forwards.reverse();
    assert_eq!(backwards, forwards);

    // A client's FIN is half of an end; the listing of what is over is asked for.
    let mut v4 = open.v4;
    let leaves = v4.remove(0);
    let end = leaves.local().unwrap().to_string();
    drop(leaves);
    eventually("the connection is over", PATIENCE, || {
        ensure!(clients(&list(balancer, &["--state", "closed"])).contains(&end), "not yet");
        ensure!(count(balancer, &["--service", "web"]) == 3, "still among the open ones");
        Ok(())
    })
    .unwrap();

    let table = balancer.cli(&["connections", "list", "--sort", "client"]).unwrap();
    let text = table.success().unwrap();
    assert!(text.starts_with("SERVICE  BACKEND  CLIENT"), "{text}");
    assert_eq!(text.lines().count(), 9, "a line each below the heads: {text}");
    let wide = balancer.cli(&["connections", "list", "-o", "wide"]).unwrap().success().unwrap();
    assert!(wide.contains("FORWARDING") && wide.contains("192.0.2.10:53"), "{wide}");

    let unknown = balancer.cli(&["connections", "list", "--service", "wbe"]).unwrap();
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("dns, web, web6"), "{unknown:?}");
    let unknown = balancer.cli(&["connections", "count", "--backend", "web-09"]).unwrap();
    assert!(unknown.code == 2 && unknown.stderr.contains("web/web-01"), "{unknown:?}");
}

#[test]
fn connections_are_counted_by_what_is_asked() {
    let (stage, _echoes) = stage();
    let _open = Clients::open(stage.client()).unwrap();
    let count = |arguments: &[&str]| {
        let arguments = [&["connections", "count"], arguments].concat();
        let document = stage.balancer.json(&arguments).unwrap();
        let groups = document["counts"].as_array().unwrap().iter();
        let groups: Vec<_> = groups
            .map(|group| {
                let name = ["service", "backend", "client", "state"].map(|field| &group[field]);
                let name: Vec<_> = name.into_iter().filter_map(Value::as_str).collect();
                (name.join("/"), group["connections"].as_u64().unwrap())
            })
            .collect();
        (document["total"].as_u64().unwrap(), groups, document["others"].as_u64().unwrap())
    };
    let named = |groups: &[(&str, u64)]| -> Vec<(String, u64)> {
        groups.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let (total, mut groups, _) = count(&["--by", "backend", "--protocol", "tcp"]);
    groups.sort();
    let expected = [("web/web-01", 2), ("web/web-02", 2), ("web6/web-01", 1), ("web6/web-02", 1)];
    assert_eq!((total, groups), (6, named(&expected)));
    let expected = [("198.51.100.2", 6), ("2001:db8:1::2", 2), (OTHER, 1)];
    assert_eq!(count(&["--by", "client"]), (9, named(&expected), 0));
    assert_eq!(count(&["--by", "client", "--limit", "1"]), (9, named(&expected[..1]), 3));
    assert_eq!(count(&["--by", "state"]), (9, named(&[("established", 9)]), 0));
    assert_eq!(count(&["--by", "state", "--service", "web6"]).0, 2);
    let table = stage.balancer.cli(&["connections", "count"]).unwrap().success().unwrap();
    assert!(table.starts_with("SERVICE") && table.ends_with("9 in all\n"), "{table}");
}

/// What `evenkeel` of a user without any group says.
fn as_nobody(balancer: &Balancer, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(balancer.binary_path()).args(arguments);
    command.arg("--socket").arg(balancer.socket_path()).output().unwrap()
}

#[test]
fn a_flush_cuts_what_it_names_and_no_more() {
    let (stage, _echoes) = stage();
    let open = Clients::open(stage.client()).unwrap();
    let balancer = &stage.balancer;
    let flush =
        |filters: &[&str]| balancer.cli(&[&["connections", "flush"], filters].concat()).unwrap();
    let named = list(balancer, &["--service", "web", "--backend", "web-01"]);
    let named = clients(&named);

    // Nobody is cut without being named, or by who may not.
    let refused = flush(&[]);
    assert!(refused.code == 2 && refused.stderr.contains("--all"), "{refused:?}");
    let api = balancer.api("DELETE", "/v1/connections", None).unwrap();
    assert_eq!(api.status, 422, "{api:?}");
    assert_eq!(flush(&["--service", "wbe"]).code, 2);
    let stranger = as_nobody(balancer, &["connections", "flush", "--all"]);
    assert!(!stranger.status.success());
    assert_eq!(count(balancer, &[]), 9);

    let done = flush(&["--service", "web", "--backend", "web-01"]).success().unwrap();
    assert_eq!(done, "2 connections cut\n");
    assert_eq!(count(balancer, &[]), 7);
    let counters = balancer.counters("web", "web-01").unwrap();
    assert_eq!((counters.connections, counters.open), (2, 0), "the program counted the ends");
    let Clients { v4, v6, flows, other } = open;
    for mut connection in v4 {
        let end = connection.local().unwrap().to_string();
        // What is cut is no connection any more: the host's own stack says so.
        assert_eq!(connection.get("/").is_err(), named.contains(&end), "{end}");
    }
    for mut connection in v6 {
        connection.get("/").unwrap();
    }
    let log = balancer.log();
    assert!(log.contains("connections of service web, backend web-01 cut"), "{log}");

    assert_eq!(flush(&["--client", OTHER]).success().unwrap(), "1 connection cut\n");
    assert_eq!(
        flush(&["--client", OTHER]).success().unwrap(),
        "no connection matches; none was cut\n"
    );
    // UDP has no end to notice: its next datagram is a new flow.
    ask(&other, b"again").unwrap();
    for socket in &flows {
        ask(socket, b"on").unwrap();
    }
    let dns: u64 = ["web-01", "web-02"]
        .map(|name| balancer.counters("dns", name).unwrap().connections)
        .iter()
        .sum();
    assert_eq!(dns, 4, "three flows, and one again");

    let left = count(balancer, &[]);
    let done = flush(&["--all"]).success().unwrap();
    assert_eq!(done, format!("{left} connections cut\n"));
    assert_eq!(count(balancer, &[]), 0);
    // Who cut which is on record; what cut nothing is not.
    let page = balancer.api("GET", "/v1/events?kind=connections&limit=9", None).unwrap().body;
    let events = page["events"].as_array().unwrap().iter();
    let told: Vec<_> = events.clone().map(|event| event["message"].as_str().unwrap()).collect();
    let named = "2 connections of service web, backend web-01 cut";
    let other = format!("1 connection of client {OTHER}/32 cut");
    let all = format!("{left} connections of every service cut");
    assert_eq!(told, [named, &other, &all]);
    let first = &page["events"][0];
    assert_eq!((&first["service"], &first["backend"]), (&"web".into(), &"web-01".into()));
    assert!(events.clone().all(|event| event["who"]["user"] == "root"), "{page}");
    stage.ask(Family::V4, 10).unwrap().flawless().context("new ones after the cut").unwrap();
}
