//! Bad texts: each gives a message with its line, its object and its remedy.

use std::{fmt::Write, fs, path::Path};

use super::{parse, with};
use crate::config::{Config, Severity};

/// Asserts that `text` has exactly one error, whose display is on `line` and has `fragments`.
#[track_caller]
pub(super) fn assert_error(text: &str, line: usize, fragments: &[&str]) {
    let invalid = parse(text).expect_err(text);
    let errors: Vec<_> =
        invalid.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
    let [error] = errors.as_slice() else { panic!("not one error:\n{invalid}\nin:\n{text}") };
    let shown = error.to_string();
    assert!(
        shown.starts_with(&format!("evenkeel.toml:{line}:")),
        "not on line {line}: {shown}\nin:\n{text}"
    );
    for fragment in fragments {
        assert!(shown.contains(fragment), "no {fragment:?} in: {shown}");
    }
    assert!(!error.remedy.is_empty(), "no remedy: {shown}");
}

#[test]
fn the_form_of_a_diagnostic() {
    let invalid = parse(&with("", "wieght = 2")).unwrap_err();
    assert!(invalid.to_string().lines().any(|line| line
        == "evenkeel.toml:13:1: error: unknown key \"wieght\" in [[service.backend]]; \
            did you mean \"weight\"?"));
}

#[test]
fn services() {
    for (line, fragments) in [
        ("colour = 1", &["unknown key \"colour\" in [[service]]", "known keys are name,"][..]),
        ("protcol = \"tcp\"", &["did you mean \"protocol\"?"]),
        ("min_active = 0", &["min_active of service \"web\" is 0, out of range"]),
        (
            "min_active = 3",
            &["min_active of service \"web\" is 3, and it has 2 backends", "set it to 2"],
        ),
        ("on_all_down = \"open\"", &["on_all_down of service \"web\"", "use reject or keep"]),
        ("on_down = \"cut\"", &["on_down of service \"web\"", "use keep or reset"]),
        ("slow_start = \"1ms\"", &["slow_start of service \"web\" is \"1ms\"", "use 1s"]),
        ("protocol = 6", &["protocol of service \"web\" must be a string, not an integer"]),
        ("protocol = \"tpc\"", &["did you mean \"tcp\"? Use tcp or udp"]),
        ("scheduler = \"roundrobin\"", &["is unknown", "did you mean \"round-robin\"?"]),
        ("forwarding = \"dnr\"", &["did you mean \"dsr\"? Use nat, dsr, ipip or gue"]),
    ] {
        assert_error(&with(line, ""), 6, fragments);
    }
}

#[test]
fn backends() {
    for (line, fragments) in [
        ("tier = \"spare\"", &["tier of backend \"web-02\" is \"spare\"", "primary or backup"][..]),
        ("max_connections = 0", &["max_connections of backend \"web-02\" is 0", "remove it"]),
        ("max_connections = 67108865", &["use 1 to 67108864"]),
        ("weight = 0", &["weight of backend \"web-02\" is 0", "drain", "remove"]),
        ("weight = 65536", &["is 65536, out of range", "use 1 to 65535"]),
        ("weight = -1", &["is -1, out of range"]),
        ("weight = 99999999999999999999999999999999999999999", &["out of range"]),
        ("weight = 1.5", &["must be a whole number, not a float"]),
        ("weight = \"1\"", &["must be a whole number, not a string"]),
    ] {
        assert_error(&with("", line), 13, fragments);
    }
}

#[test]
fn addresses() {
    for (address, fragment) in [
        ("192.0.2.10", "has no port"),
        ("2001:db8::10", "has no port"),
        ("192.0.2.10:0", "with port 0"),
        ("192.0.2.10:70000", "port that is out of range"),
        ("2001:db8::10:*", "not an address with a port"),
        ("www.example.org:*", "\"www.example.org\" is not an IP address"),
        ("0.0.0.0:*", "the unspecified address"),
        ("www.example.org:80", "\"www.example.org\" is not an IP address"),
        ("192.0.2.10:http", "not an address with a port"),
        ("", "not an address with a port"),
        ("0.0.0.0:80", "the unspecified address"),
        ("[::]:80", "the unspecified address"),
        ("224.0.0.1:80", "a multicast address"),
        ("[ff02::1]:80", "a multicast address"),
        ("255.255.255.255:80", "the broadcast address"),
        ("[::ffff:192.0.2.1]:80", "an IPv4 address written as IPv6"),
        ("[fe80::1%2]:80", "scoped to one interface"),
    ] {
        let text = with("", "").replace("192.0.2.10:80", address);
        assert_error(&text, 5, &["address of service \"web\"", fragment]);
    }
}

#[test]
fn names() {
    let long = "a".repeat(64);
    for name in ["", "-a", ".a", "a b", "a/b", "ä", long.as_str()] {
        let text = with("", "").replace("web-02", name);
        assert_error(&text, 11, &["which cannot be a name", "use 1 to 63 letters"]);
    }
    for name in ["a", "0", "a.b_c-d", &long[1..]] {
        assert!(parse(&with("", "").replace("web-02", name)).is_ok(), "{name}");
    }
}

#[test]
fn probes() {
    for (lines, line, fragments) in [
        ("", 6, &["[service.health] (the probe of service \"web\") has no kind"][..]),
        (
            "kind = \"htpp\"",
            7,
            &["did you mean \"http\"? Use none, tcp, http, https, udp, grpc or exec"],
        ),
        ("kind = \"tcp\"\npath = \"/\"", 8, &["path of the probe", "means nothing to a tcp probe"]),
        ("kind = \"tcp\"\ntimeout = \"3s\"", 8, &["is 3s, longer than its interval of 2s"]),
        (
            "kind = \"tcp\"\ninterval = \"9ms\"",
            8,
            &["is \"9ms\", out of range", "use 10ms to 1day"],
        ),
        ("kind = \"tcp\"\ninterval = 2", 8, &["must be a duration in quotes, not an integer"]),
        ("kind = \"tcp\"\ninterval = \"2\"", 8, &["is not a duration", "with a unit"]),
        ("kind = \"tcp\"\nrise = 0", 8, &["rise of the probe of service \"web\" is 0"]),
        ("kind = \"tcp\"\nfall = 0", 8, &["fall", "is 0, out of range"]),
        ("kind = \"tcp\"\nport = 0", 8, &["port", "use 1 to 65535"]),
        ("kind = \"http\"\npath = \"healthz\"", 8, &["start it with /"]),
        ("kind = \"http\"\npath = \"/a b\"", 8, &["percent-encode"]),
        ("kind = \"http\"\nmethod = \"get\"", 8, &["use an HTTP method"]),
        ("kind = \"http\"\nhost = \"a\\r\\nb\"", 8, &["write a host name"]),
        ("kind = \"http\"\nexpect_body = \"\"", 8, &["is empty"]),
        ("kind = \"http\"\nexpect_body = \"x\"\nmethod = \"HEAD\"", 8, &["can never match"]),
        ("kind = \"http\"\nexpect_status = \"200-\"", 8, &["not a list of HTTP statuses"]),
        ("kind = \"http\"\nexpect_status = 99", 8, &["use statuses of 100 to 599"]),
        ("kind = \"http\"\nexpect_status = \"399-300\"", 8, &["is \"399-300\""]),
        ("kind = \"http\"\nexpect_status = [200]", 8, &["not an array"]),
        ("kind = \"http\"\nintervall = \"1s\"", 8, &["did you mean \"interval\"?"]),
    ] {
        assert_error(&with(&format!("[service.health]\n{lines}"), ""), line, fragments);
    }
}

#[test]
fn node_nat_and_tables() {
    for (text, line, fragments) in [
        ("", 1, &["[node] is missing", "add [node]"][..]),
        ("[node]", 1, &["[node] has no interfaces"]),
        ("[node]\ninterfaces = []", 2, &["interfaces in [node] is empty"]),
        ("[node]\ninterfaces = \"eth0\"", 2, &["must be a list, not a string", "brackets"]),
        ("[node]\ninterfaces = [\n 'a',\n 1]", 4, &["an entry of interfaces in [node] must be"]),
        (
            "[node]\ninterfaces = ['a', 'a']",
            2,
            &["interface \"a\" is listed twice (first on line 2)"],
        ),
        ("[node]\ninterfaces = ['abcdefghijklmnop']", 2, &["longer than the 15 bytes"]),
        ("[node]\ninterfaces = ['a/b']", 2, &["cannot be the name of an interface"]),
        ("[node]\ninterfaces = ['']", 2, &["cannot be the name of an interface"]),
        ("node = 1", 1, &["[node] must be a table, not an integer"]),
        ("[node]\ninterfaces=['a']\nxdp_mode='skb'", 3, &["use auto, native or generic"]),
        ("[nod]\n[node]\ninterfaces=['a']", 1, &["unknown key \"nod\"", "did you mean \"node\"?"]),
        ("[http]\nlisten='1'\n[node]\ninterfaces=['a']", 2, &["listen in [http]", "or \"off\""]),
        ("[http]\nlisten='127.0.0.1:0'\n[node]\ninterfaces=['a']", 2, &["listen in [http]"]),
        ("[http]\nlisten=9650\n[node]\ninterfaces=['a']", 2, &["must be a string"]),
        ("[service]\n[node]\ninterfaces=['a']", 1, &["write each as [[service]], in double"]),
    ] {
        assert_error(text, line, fragments);
    }
    for (lines, fragments) in [
        ("[nat]\nsource_ports = \"2000-1000\"", &["not a range of ports"][..]),
        ("[nat]\nsource_ports = \"0-1000\"", &["of 1 to 65535"]),
        ("[nat]\nsource_ports = \"1000-70000\"", &["not a range of ports"]),
        ("[nat]\nsource_ports = \"1000\"", &["not a range of ports"]),
        ("[nat]\nsource_ports = 1000", &["must be a string"]),
        ("[nat]\nsource_addresses = [\"10.0.0.2:1\"]", &["write the address without a port"]),
        ("[nat]\nsource_addresses = [\"10.0.0.2/24\"]", &["not an IP address"]),
        ("[nat]\nsource_addresses = [\"::\"]", &["the unspecified address"]),
        ("[nat]\nsource_addresses = [\"::1\", \"::1\"]", &["source address ::1 is listed twice"]),
        ("[tables]\nconnections = 0", &["connections in [tables] is 0, out of range"]),
        ("[tables]\nbackends = 65537", &["use 1 to 65536"]),
        ("[tables]\nconnexions = 5", &["did you mean \"connections\"?"]),
    ] {
        assert_error(&format!("[node]\ninterfaces = ['eth0']\n{lines}"), 4, fragments);
    }
    let many: Vec<String> = (1..=9).map(|n| format!("'10.0.0.{n}'")).collect();
    let text =
        format!("[node]\ninterfaces=['a']\n[nat]\nsource_addresses=['::1',{}]", many.join(","));
    assert_error(&text, 4, &["lists 9 IPv4 addresses", "at most 8 of each family"]);
}

#[test]
fn duplicates_and_families() {
    let service = "[[service]]\nname = \"b\"\naddress = \"192.0.2.10:80\"";
    let message = "address 192.0.2.10:80/tcp belongs to service \"web\" already (line 5)";
    assert_error(&with("", service), 15, &[message, "use another"]);
    let service = "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:81\"";
    assert_error(&with("", service), 14, &["service name \"web\" is used twice (first on line 4)"]);
    let text = with("", "").replace("web-02", "web-01");
    assert_error(
        &text,
        11,
        &["backend name \"web-01\" is used twice in service \"web\"", "line 8"],
    );
    let text = with("", "").replace("10.0.0.12", "10.0.0.11");
    assert_error(&text, 12, &["backend address 10.0.0.11:80 is used twice", "raise its weight"]);
    let text = with("", "").replace("10.0.0.12", "[2001:db8::1]");
    assert_error(&text, 12, &["backend \"web-02\" is IPv6 and service \"web\" is IPv4"]);
}

#[test]
fn capacities() {
    let service = "[[service]]\nname = \"b\"\naddress = \"192.0.2.10:81\"";
    let text = with("", &format!("{service}\n[tables]\nservices = 1"));
    assert_error(&text, 13, &["there are 2 services, and room for 1", "services = 2"]);
    let text = with("", "[tables]\nbackends = 1");
    assert_error(&text, 10, &["there are 2 backends, and room for 1", "backends = 2"]);
}

#[test]
fn rings_that_are_too_long() {
    let heavy = |count: u32, weight: u32| {
        let mut text = with("", "weight = 1");
        for n in 0..count {
            let [_, _, high, low] = n.to_be_bytes();
            write!(
                text,
                "[[service.backend]]\nname='h{n}'\naddress='10.1.{high}.{low}:1'\nweight={weight}\n"
            )
            .unwrap();
        }
        text
    };
    // 2 + 16 × 65,535 = 1,048,562 slots fit; one more backend does not.
    assert!(parse(&heavy(16, 65_535)).is_ok());
    let fragments = ["make a ring of 1114097 slots", "h0 = 65535", "in the same proportion"];
    assert_error(&heavy(17, 65_535), 3, &fragments);
    // What all weights share does not count.
    let shared = heavy(40, 50_000).replace("weight = 1\n", "weight = 50000\n");
    let shared = shared.replacen("10.0.0.11:80\"", "10.0.0.11:80\"\nweight = 50000", 1);
    assert!(parse(&shared).is_ok());
}

#[test]
fn missing_keys() {
    let text = with("", "").replace("name = \"web\"\n", "");
    assert_error(&text, 3, &["[[service]] has no name", "add name"]);
    let text = with("", "").replace("address = \"192.0.2.10:80\"\n", "");
    assert_error(&text, 3, &["[[service]] (service \"web\") has no address"]);
    let text = with("", "").replace("address = \"10.0.0.12:80\"\n", "");
    assert_error(&text, 10, &["[[service.backend]] (backend \"web-02\") has no address"]);
}

#[test]
fn all_errors_at_once_in_order() {
    let text = with("scheduler = \"magler\"\nport = 1", "weight = 0\nnmae = 3")
        .replace("interfaces = [\"eth0\"]", "interfaces = 5");
    let invalid = parse(&text).unwrap_err();
    let lines: Vec<usize> = invalid
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(|d| d.position.unwrap().line)
        .collect();
    assert_eq!(lines, [2, 6, 7, 14, 15]);
}

#[test]
fn columns_count_characters() {
    let text = "[node]\ninterfaces = ['é', 5, 'b']";
    let position = parse(text).unwrap_err().diagnostics[0].position.unwrap();
    assert_eq!((position.line, position.column), (2, 20));
}

#[test]
fn text_that_is_not_toml() {
    assert_error(
        "[node]\ninterfaces = [\"eth0\"\n[nat]\n",
        3,
        &["missing comma", "correct the TOML"],
    );
    assert_error("[node]\ninterfaces = ['a']\ninterfaces = ['b']", 3, &["duplicate key"]);
    let several = parse("[node]\na = \nb = 1 2\n").unwrap_err();
    assert_eq!(several.diagnostics.len(), 2, "{several}");
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Config::load(Path::new("/nonexistent/evenkeel.toml")).unwrap_err().to_string();
    assert!(
        missing.starts_with("/nonexistent/evenkeel.toml: error: cannot read the configuration")
    );
    assert!(missing.contains("--config"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, b"[node]\nx = \"\xff\"").unwrap();
    let shown = Config::load(&path).unwrap_err().to_string();
    assert!(shown.contains("a.toml:2:6: error: the file is not UTF-8 text"), "{shown}");
    assert!(Config::load(directory.path()).is_err());
}

/// In every section and for every choice, and all of them at once.
#[test]
fn the_nearest_valid_word_is_named_everywhere() {
    let cases = [
        ("[node]\ninterfaces = [\"eth0\"]\nxdp_mod = \"auto\"", "xdp_mode"),
        ("xdp_mode = \"genric\"", "generic"),
        ("[nat]\nsource_port = \"1-2\"", "source_ports"),
        ("[tunnel]\nsource_prefix = []", "source_prefixes"),
        ("[tables]\nconection = 5", "connections"),
        (
            "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\nfowarding = \"nat\"",
            "forwarding",
        ),
        ("scheduler = \"magleve\"", "maglev"),
        ("overload = \"rejct\"", "reject"),
        ("allow_files = \"x\"", "allow_file"),
        ("[service.timeouts]\nestablishd = \"1h\"", "established"),
        ("[service.limits]\nclient_busrt = 5", "client_burst"),
        ("[service.health]\nkind = \"htpp\"\nexpect_stauts = 200", "expect_status"),
        ("[[service.backend]]\nname = \"a\"\nadress = \"10.0.0.1:80\"", "address"),
        ("max_conections = 5", "max_connections"),
        ("[servce]", "service"),
    ];
    let text = cases.map(|(text, _)| text).join("\n");
    let invalid = parse(&text).unwrap_err();
    let mut from = 0;
    for (case, nearest) in cases {
        let line = from + case.lines().count();
        let place = format!("evenkeel.toml:{line}:");
        let meant = format!("did you mean \"{nearest}\"?");
        let said = invalid.to_string();
        let found = said.lines().any(|found| found.starts_with(&place) && found.contains(&meant));
        assert!(found, "{place} {meant} in:\n{said}");
        from = line;
    }
}
