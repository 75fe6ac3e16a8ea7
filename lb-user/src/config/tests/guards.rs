//! Allowed and denied prefixes, in the text and in files, and limits.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{invalid::assert_error, parse, with};
use crate::config::{Config, Invalid, Limits, Loaded, NotAPrefix, Prefix, Rate};

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Parses `text` in a folder with these files.
fn parse_beside(text: &str, files: &[(&str, &str)]) -> Result<Loaded, Invalid> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Config::parse(text, &folder.path().join("evenkeel.toml"))
}

fn node(lines: &str) -> String {
    with("", "").replace("[\"eth0\"]\n", &format!("[\"eth0\"]\n{lines}\n"))
}

#[test]
fn prefixes() {
    for (text, shown) in [
        ("198.51.100.0/24", "198.51.100.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("2001:db8::1", "2001:db8::1/128"),
    ] {
        assert_eq!(prefix(text).to_string(), shown);
    }
    for (text, error) in [
        ("198.51.100.7/24", NotAPrefix::HostBits(prefix("198.51.100.0/24"))),
        ("2001:db8::1/32", NotAPrefix::HostBits(prefix("2001:db8::/32"))),
        ("198.51.100.0/33", NotAPrefix::Length(32)),
        ("198.51.100.0/256", NotAPrefix::Length(32)),
        ("2001:db8::/129", NotAPrefix::Length(128)),
        ("198.51.100.0/", NotAPrefix::Syntax),
        ("198.51.100.0/+8", NotAPrefix::Syntax),
        ("198.51.100/24", NotAPrefix::Syntax),
        ("/24", NotAPrefix::Syntax),
        ("::ffff:192.0.2.0/120", NotAPrefix::Mapped),
    ] {
        assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn a_prefix_holds_what_begins_alike(bits: u128, v4: bool, length in 0_u8..=128, flip in 0_u8..128) {
        let address = |bits: u128| -> std::net::IpAddr {
            if v4 { ((bits >> 96) as u32).to_be_bytes().into() } else { bits.to_be_bytes().into() }
        };
        let cut = Prefix::cut(address(bits), length);
        prop_assert_eq!(cut.to_string().parse::<Prefix>(), Ok(cut));
        prop_assert!(cut.contains(address(bits)));
        let flipped = address(bits ^ (1 << (127 - flip)));
        // Beyond the bits of IPv4 nothing is flipped.
        prop_assert_eq!(cut.contains(flipped), flip >= cut.length);
    }
}

#[test]
fn lists_of_the_node_and_of_services() {
    let text = node("deny = [\"203.0.113.0/24\", \"2001:db8::/32\", \"203.0.113.0/24\"]").replace(
        "address = \"192.0.2.10:80\"",
        "address = \"192.0.2.10:80\"\nallow = [\"198.51.100.0/24\", \"10.0.0.0/8\"]",
    );
    let config = parse(&text).unwrap().config;
    assert_eq!(config.node.prefixes.deny, [prefix("203.0.113.0/24"), prefix("2001:db8::/32")]);
    assert_eq!(config.node.prefixes.allow, []);
    let service = &config.services[0];
    assert_eq!(service.prefixes.allow, [prefix("10.0.0.0/8"), prefix("198.51.100.0/24")]);
    assert!(parse(&with("", "")).unwrap().config.services[0].prefixes.is_empty());
    // Only their numbers are shown.
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["node"]["prefixes"], serde_json::json!({ "allow": 0, "deny": 2 }));
    assert_eq!(format!("{:?}", service.prefixes), "PrefixLists { 2 allowed, 0 denied }");
}

#[test]
fn wrong_lists() {
    for (lines, fragments) in [
        (
            "deny = [\"198.51.100.7/24\"]",
            &[
                "an entry of deny in [node] is",
                "\"198.51.100.0/24\", or \"198.51.100.7/32\" for that address alone",
            ][..],
        ),
        ("deny = [\"198.51.100.0/33\"]", &["longer than the 32 bits of its address"]),
        ("deny = [\"example.org\"]", &["is not a prefix", "write it like"]),
        ("deny = [7]", &["an entry of deny in [node] must be a string"]),
        ("deny = \"198.51.100.0/24\"", &["deny in [node] must be a list"]),
        ("allow = []", &["the allow list in [node] has no prefix", "to allow everybody remove it"]),
        ("deny_file = \"\"", &["deny_file in [node] is empty"]),
        (
            "deny_file = \"none.txt\"",
            &["deny_file in [node] is none.txt, which cannot be read", "relative to"],
        ),
        ("deny_file = \".\"", &["it is no regular file"]),
        ("dney = [\"198.51.100.0/24\"]", &["did you mean \"deny\"?"]),
        (
            "allow = [\"198.51.100.0/24\", \"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]",
            &["prefix 10.0.0.0/8 in [node] is denied, and allowed on line 3", "one of the two"],
        ),
    ] {
        assert_error(&node(lines), if lines.contains('\n') { 4 } else { 3 }, fragments);
    }
    let text = with("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]", "");
    assert_error(
        &text,
        7,
        &["prefix 10.0.0.0/8 of service \"web\" is denied, and allowed on line 6"],
    );
    // Inside one another they may lie: the longer one wins.
    assert!(parse(&with("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/9\"]", "")).is_ok());
}

#[test]
fn files_of_prefixes() {
    let text = with("allow = [\"10.0.0.0/8\"]\nallow_file = \"a.txt\"\ndeny_file = \"d.txt\"", "");
    let allow = "# office\n\n  198.51.100.0/24  # first floor\r\n10.0.0.0/8\n2001:db8::/32";
    let loaded = parse_beside(&text, &[("a.txt", allow), ("d.txt", "# none yet\n")]).unwrap();
    let prefixes = &loaded.config.services[0].prefixes;
    let wanted = ["10.0.0.0/8", "198.51.100.0/24", "2001:db8::/32"].map(prefix);
    assert_eq!((&prefixes.allow[..], &prefixes.deny[..]), (&wanted[..], &[][..]));
    // What stands in a file that services of both families share is no mistake.
    assert!(!loaded.warnings.iter().any(|warning| warning.message.contains("never matches")));
    assert_eq!(loaded.prefix_files.len(), 2);
    let other = parse_beside(&text, &[("a.txt", "10.0.0.0/8"), ("d.txt", "# none yet\n")]).unwrap();
    let digests = |loaded: &Loaded| loaded.prefix_files.values().copied().collect::<Vec<_>>();
    assert_ne!(digests(&loaded)[0], digests(&other)[0]);
    assert_eq!(digests(&loaded)[1], digests(&other)[1]);
}

#[test]
fn wrong_files_name_their_lines() {
    let text = with("allow_file = \"a.txt\"\ndeny_file = \"d.txt\"", "");
    let shown = |allow: &str, deny: &str| {
        let invalid = parse_beside(&text, &[("a.txt", allow), ("d.txt", deny)]).unwrap_err();
        let errors = invalid.to_string();
        errors
            .lines()
            .filter(|line| line.contains(" error: "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let errors = shown("10.0.0.0/8\n\n  10.0.0.1/8 # one\n", "\u{e9}\n");
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let first = "/a.txt:3:3: error: a line of allow_file of service \"web\" is \"10.0.0.1/8\", which \
                 has bits set after its length; write \"10.0.0.0/8\"";
    assert!(errors[0].contains(first), "{errors:#?}");
    assert!(errors[1].contains("/d.txt:1:1: error: a line of deny_file"), "{errors:#?}");
    let errors = shown("10.0.0.0/8", "# no\n10.0.0.0/8");
    assert!(errors[0].contains("/d.txt:2:1: error: prefix 10.0.0.0/8 of service"), "{errors:#?}");
    assert!(errors[0].contains("allowed on line 1 of /"), "{errors:#?}");
    let errors = shown("# nobody yet", "");
    assert!(
        errors[0].contains("evenkeel.toml:6:14: error: the allow list of service \"web\" has no")
    );
    // A file of something else gives a screen of errors, not a thousand.
    let errors = shown("10.0.0.0/8", &"<p>\n".repeat(1000));
    assert_eq!(errors.len(), 21);
    assert!(errors[20].contains("980 more lines of deny_file"), "{errors:#?}");
    let many = "\"x\",".repeat(100);
    let invalid = parse(&node(&format!("deny = [{many}]"))).unwrap_err().to_string();
    assert!(invalid.contains("80 more entries of deny in [node] are wrong"), "{invalid}");
}

#[test]
fn a_file_that_many_share_is_read_once() {
    let text = format!(
        "{}deny_file = \"d.txt\"\n",
        with("deny_file = \"d.txt\"", "[[service]]\nname='b'\naddress='[2001:db8::1]:1'")
    );
    let loaded = parse_beside(&text, &[("d.txt", "10.0.0.0/8\n2001:db8::/32\n")]).unwrap();
    for service in &loaded.config.services {
        assert_eq!(service.prefixes.deny.len(), 2);
    }
    let invalid = parse_beside(&text, &[("d.txt", "10.0.0.0/8\n10/8\n")]).unwrap_err().to_string();
    assert_eq!(invalid.matches(" error: ").count(), 1, "{invalid}");
}

#[test]
fn room_for_prefixes() {
    let text =
        format!("{}[tables]\nprefixes = 3", with("deny_file = \"d.txt\"\nallow = ['::/0']", ""))
            .replace("[\"eth0\"]", "[\"eth0\"]\ndeny = [\"10.0.0.0/8\"]");
    let two = "10.1.0.0/16\n10.2.0.0/16\n10.2.0.0/16\n";
    let invalid = parse_beside(&text, &[("d.txt", two)]).unwrap_err().to_string();
    let wanted = "there are 4 allowed and denied prefixes, and room for 3; remove some, or set \
                  prefixes = 4 in [tables]";
    assert!(invalid.contains(wanted), "{invalid}");
    assert!(parse_beside(&text, &[("d.txt", "10.1.0.0/16\n10.1.0.0/16")]).is_ok());
}

#[test]
fn lists_that_shut_out_a_family_warn() {
    let warned = |text: &str, fragment: &str| {
        let warnings = parse(text).unwrap().warnings;
        warnings.iter().any(|warning| warning.message.contains(fragment))
    };
    let reach = "has no IPv4 prefix, so nobody reaches service \"web\"";
    assert!(warned(&with("allow = [\"2001:db8::/32\"]", ""), reach));
    assert!(warned(&node("allow = [\"2001:db8::/32\"]"), reach));
    assert!(!warned(&node("allow = [\"2001:db8::/32\", \"10.0.0.0/8\"]"), reach));
    let idle =
        "prefix 2001:db8::/32 of service \"web\" never matches, because its clients are IPv4";
    assert!(warned(&with("deny = [\"2001:db8::/32\"]", ""), idle));
    assert!(!warned(&node("deny = [\"2001:db8::/32\"]"), "never matches"));
}

/// 100,000 prefixes in a file and as many in the text load in a moment.
#[test]
fn long_lists_load_fast() {
    let [mut lines, mut entries] = [String::new(), String::new()];
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        writeln!(lines, "10.{a}.{b}.{c}").unwrap();
        write!(entries, "\"11.{a}.{b}.{c}/32\", ").unwrap();
    }
    let text = format!(
        "{}[tables]\nprefixes = 200000\n",
        with(&format!("deny_file = \"d.txt\"\nallow = [{entries}]"), "")
    );
    let start = Instant::now();
    let loaded = parse_beside(&text, &[("d.txt", &lines)]).unwrap();
    assert_eq!(loaded.config.services[0].prefixes.len(), 200_000);
    // Something quadratic would take minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn limits() {
    let limits = |lines: &str| {
        let text = with(&format!("[service.limits]\n{lines}"), "");
        parse(&text).unwrap().config.services.pop().unwrap().limits
    };
    assert_eq!(limits(""), Limits::default());
    let all = limits(
        "new_connections = 10000\nburst = 20\nclient_new_connections = 100\nclient_prefix_v4 = 24\n\
         client_prefix_v6 = 56",
    );
    let wanted = Limits {
        service: Some(Rate { per_second: 10_000, burst: 20 }),
        client: Some(Rate { per_second: 100, burst: 100 }),
        client_prefix_v4: 24,
        client_prefix_v6: 56,
    };
    assert_eq!(all, wanted);
    assert_eq!(all.client_prefix(&"192.0.2.1:80".parse().unwrap()), 24);
    assert_eq!(all.client_prefix(&"[2001:db8::1]:80".parse().unwrap()), 56);
    for (lines, fragments) in [
        ("new_connections = 0", &["new_connections of the limits of service \"web\" is 0"][..]),
        ("burst = 5", &["burst", "means nothing without new_connections", "or remove burst"]),
        ("client_burst = 5", &["means nothing without client_new_connections"]),
        ("client_prefix_v4 = 24", &["means nothing without client_new_connections"]),
        ("client_prefix_v6 = 129\nclient_new_connections = 1", &["use 1 to 128"]),
        ("client_prefix_v4 = 0\nclient_new_connections = 1", &["use 1 to 32"]),
        ("new_connection = 5", &["did you mean \"new_connections\"?"]),
    ] {
        assert_error(&with(&format!("[service.limits]\n{lines}"), ""), 7, fragments);
    }
}
