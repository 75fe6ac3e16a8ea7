//! Edits keep every byte that is not theirs.

use std::{net::SocketAddr, time::Duration};

use super::{COMMENTED, parse, texts as edit, with};
use crate::config::{
    BackendSpec, Config, EditError, Endpoint, Forwarding, HealthCheck, HttpProbe, Overload, Probe,
    ProbeKind, Protocol, Scheduler, ServiceSpec, Tier, Timing,
};

fn backend(name: &str, address: &str, weight: u16) -> BackendSpec {
    BackendSpec {
        name: name.to_owned(),
        address: read(address),
        weight,
        tier: Tier::default(),
        max_connections: None,
    }
}

fn service(name: &str, address: &str) -> ServiceSpec {
    ServiceSpec::new(name.to_owned(), read(address))
}

fn read(address: &str) -> SocketAddr {
    address.parse::<Endpoint>().unwrap().0
}

fn config(text: &str) -> Config {
    parse(text).unwrap().config
}

/// Asserts that `edited` is [`COMMENTED`] with `old` replaced by `new`, and nothing else.
#[track_caller]
fn assert_only(edited: &str, old: &str, new: &str) {
    assert_eq!(COMMENTED.matches(old).count(), 1, "{old:?} is not unique");
    assert_eq!(edited, COMMENTED.replace(old, new), "\n--- edited:\n{edited}");
}

#[test]
fn add_a_backend_after_its_siblings() {
    let edited = edit::add_backend(COMMENTED, "web", &backend("web-03", "10.0.0.13:8080", 1));
    assert_only(
        &edited.unwrap(),
        "# srv2\n",
        "# srv2\n\n[[service.backend]]\nname = \"web-03\"\naddress = \"10.0.0.13:8080\"\n",
    );
    let edited = edit::add_backend(COMMENTED, "dns", &backend("dns-02", "10.0.0.22:53", 7));
    assert_only(
        &edited.unwrap(),
        "10.0.0.21:53\"\n",
        "10.0.0.21:53\"\n\n[[service.backend]]\nname = \"dns-02\"\naddress = \"10.0.0.22:53\"\n\
         weight = 7\n",
    );
}

#[test]
fn remove_a_backend_and_its_comments_alone() {
    let edited = edit::remove_backend(COMMENTED, "web", "web-01").unwrap();
    assert_only(
        &edited,
        "\n# The old one.\n[[service.backend]]\nname = \"web-01\" # srv1\n\
         address = \"10.0.0.11:8080\"\nweight = 2\n# weight = 3, when it has its memory\n",
        "",
    );
    let edited = edit::remove_backend(COMMENTED, "web", "web-02").unwrap();
    assert_only(
        &edited,
        "\n# The new one.\n[[service.backend]]\nname = \"web-02\"\n\
         address = \"10.0.0.12:8080\" # srv2\n",
        "",
    );
}

#[test]
fn remove_a_service_with_all_it_holds() {
    let edited = edit::remove_service(COMMENTED, "web").unwrap();
    let (start, end) =
        (COMMENTED.find("\n# The shop.").unwrap(), COMMENTED.find("\n# Names, over"));
    assert_eq!(edited, [&COMMENTED[..start], &COMMENTED[end.unwrap()..]].concat());
    let edited = edit::remove_service(COMMENTED, "dns").unwrap();
    let (start, end) = (COMMENTED.find("\n# Names, over").unwrap(), COMMENTED.find("\n[tables]"));
    assert_eq!(edited, [&COMMENTED[..start], &COMMENTED[end.unwrap()..]].concat());
}

#[test]
fn add_a_service_after_the_last() {
    let edited = edit::add_service(COMMENTED, &service("mail", "192.0.2.10:25")).unwrap();
    let block = "\n[[service]]\nname = \"mail\"\naddress = \"192.0.2.10:25\"\nprotocol = \"tcp\"\n\
                 scheduler = \"round-robin\"\nforwarding = \"nat\"\n";
    assert_only(&edited, "\n[tables]\n", &format!("{block}\n[tables]\n"));
    // Adding and removing is nothing.
    assert_eq!(edit::remove_service(&edited, "mail").unwrap(), COMMENTED);
}

#[test]
fn a_service_keeps_all_of_its_spec() {
    let timing = Timing { interval: Duration::from_millis(1500), ..Timing::default() };
    let exchange = HttpProbe {
        method: hyper::Method::HEAD,
        host: Some("example.org".to_owned()),
        ..HttpProbe::default()
    };
    let body = HttpProbe {
        path: "/a?b=\"c'".to_owned(),
        expect_body: Some("two\nlines \"quoted\"".to_owned()),
        ..HttpProbe::default()
    };
    for health in [
        HealthCheck::None,
        Probe { kind: ProbeKind::Tcp, timing, port: Some(81), agent: None }.into(),
        Probe { kind: ProbeKind::Http(exchange), timing, port: None, agent: None }.into(),
        Probe { kind: ProbeKind::Http(body), timing, port: Some(1), agent: None }.into(),
    ] {
        let spec =
            ServiceSpec { health, protocol: Protocol::Udp, ..service("a", "[2001:db8::1]:9") };
        let edited = edit::add_service("[node]\ninterfaces = ['eth0']", &spec).unwrap();
        let added = config(&edited).services.pop().unwrap();
        assert_eq!((added.name, added.address), (spec.name, spec.address));
        assert_eq!((added.protocol, added.health), (spec.protocol, spec.health), "{edited}");
    }
}

#[test]
fn every_option_of_a_service_and_a_backend() {
    let spec = ServiceSpec {
        scheduler: Scheduler::Maglev,
        table_size: Some(251),
        forwarding: Forwarding::Gue,
        gue_port: Some(6081),
        sticky: Some(Duration::from_mins(10)),
        overload: Overload::Drop,
        ..service("mail", "192.0.2.10:*")
    };
    let text = edit::add_service(COMMENTED, &spec).unwrap();
    let limited = BackendSpec { max_connections: Some(100), ..backend("a", "[2001:db8::1]:*", 2) };
    let text = edit::add_backend(&text, "mail", &limited).unwrap();
    assert!(text.contains("address = \"192.0.2.10:*\"\n"), "{text}");
    assert!(text.contains("sticky = \"10m\"\n"), "{text}");
    let config = config(&text);
    let added = config.service("mail").unwrap();
    assert_eq!((added.scheduler, added.table_size), (Scheduler::Maglev, 251));
    assert_eq!((added.forwarding, added.gue_port), (Forwarding::Gue, 6081));
    assert_eq!((added.sticky, added.overload), (spec.sticky, Overload::Drop));
    assert_eq!(added.address, spec.address);
    let backend = &added.backends[0];
    assert_eq!((backend.address, backend.max_connections), (limited.address, Some(100)));
    let direct = ServiceSpec { snat: false, ..service("mail", "192.0.2.10:25") };
    let text = edit::add_service(COMMENTED, &direct).unwrap();
    assert!(!parse(&text).unwrap().config.service("mail").unwrap().snat);
    // What contradicts itself is refused as it is in a file.
    let wrong = ServiceSpec { gue_port: Some(1), ..service("mail", "192.0.2.10:25") };
    let error = edit::add_service(COMMENTED, &wrong).unwrap_err().to_string();
    assert!(error.contains("gue_port of service \"mail\" means nothing"), "{error}");
}

#[test]
fn schedulers() {
    use Scheduler::{LeastConnections, Maglev, Random, SourceHash};
    let address = "name = \"web\"\naddress = \"192.0.2.10:80\"\n";
    let random = edit::set_scheduler(COMMENTED, "web", Random, None).unwrap();
    assert_only(&random, address, &format!("{address}scheduler = \"random\"\n"));
    let sized = edit::set_scheduler(&random, "web", Maglev, Some(251)).unwrap();
    let lines = "scheduler = \"maglev\"\ntable_size = 251\n";
    assert_only(&sized, address, &format!("{address}{lines}"));
    // Both lines at once come to the same.
    assert_eq!(edit::set_scheduler(COMMENTED, "web", Maglev, Some(251)).unwrap(), sized);
    let hashed = edit::set_scheduler(&sized, "web", SourceHash, None).unwrap();
    assert_eq!(config(&hashed).service("web").unwrap().table_size, 251);
    let larger = edit::set_scheduler(&hashed, "web", Maglev, Some(257)).unwrap();
    assert_eq!(larger, sized.replace("251", "257"));
    // A size that means nothing any more goes.
    let least = edit::set_scheduler(&larger, "web", LeastConnections, None).unwrap();
    assert_eq!(least, random.replace("random", "least-connections"));
    for (service, scheduler, size, fragment) in [
        ("wbe", Random, None, "did you mean \"web\"?"),
        ("web", Random, Some(251), "table_size of service \"web\" means nothing"),
        ("web", Maglev, Some(250), "use 251"),
        ("web", Maglev, Some(2), "too small for 2 backends"),
    ] {
        let error = edit::set_scheduler(COMMENTED, service, scheduler, size).unwrap_err();
        assert!(error.to_string().contains(fragment), "{error}");
    }
}

/// Files of prefixes are read when a configuration is loaded; an edit of its text needs none.
#[test]
fn files_that_are_named_stay_out_of_edits() {
    let text = COMMENTED.replace("name = \"dns\"", "name = \"dns\"\nallow_file = \"none.txt\"");
    assert!(edit::set_weight(&text, "web", "web-02", 3).is_ok());
}

#[test]
fn the_first_backend_of_a_service() {
    let text = edit::add_service(COMMENTED, &service("mail", "192.0.2.10:25")).unwrap();
    let text = edit::add_backend(&text, "mail", &backend("a", "10.0.0.1:25", 1)).unwrap();
    let text = edit::add_backend(&text, "mail", &backend("b", "10.0.0.2:25", 2)).unwrap();
    let config = config(&text);
    let names: Vec<_> = config.service("mail").unwrap().backends.iter().map(|b| &b.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.service("dns").unwrap().backends.len(), 1);
    assert!(text.ends_with("\n[tables]\nconnections = 1000 # small host\n# The end.\n"));
}

#[test]
fn weights() {
    let edited = edit::set_weight(COMMENTED, "web", "web-01", 9).unwrap();
    assert_only(&edited, "weight = 2\n", "weight = 9\n");
    let edited = edit::set_weight(COMMENTED, "web", "web-02", 3).unwrap();
    assert_only(&edited, "# srv2\n", "# srv2\nweight = 3\n");
    let inline = "[node]\ninterfaces=['a']\n[[service]]\nname='s'\naddress='192.0.2.1:1'\n\
                  backend = [\n  { name='a', address='10.0.0.1:1' }, # one\n]\n";
    let edited = edit::set_weight(inline, "s", "a", 3).unwrap();
    assert!(edited.contains("  { name='a', address='10.0.0.1:1', weight = 3 }, # one\n"));
    assert!(matches!(
        edit::set_weight(COMMENTED, "web", "web-01", 0),
        Err(EditError::InvalidAfter(_))
    ));
}

#[test]
fn new_tables_look_like_their_siblings() {
    let text = "[node]\ninterfaces=['a']\n[[service]]\nname='s'\naddress='192.0.2.1:1'\n\
                \t[[service.backend]]\n\t  name    = 'a'\n\t  address = '10.0.0.1:1'\n\t  weight  = 1";
    let edited = edit::add_backend(text, "s", &backend("b", "10.0.0.2:1", 1)).unwrap();
    let block = "\n\t[[service.backend]]\n\t  name    = \"b\"\n\t  address = \"10.0.0.2:1\"\n\
                 \t  weight  = 1\n";
    assert_eq!(edited, format!("{text}{block}"));
    let tight = "[node]\ninterfaces=['a']\n[[service]]\nname='s'\naddress='192.0.2.1:1'\n";
    let edited = edit::add_backend(tight, "s", &backend("b", "10.0.0.2:1", 1)).unwrap();
    assert_eq!(edited, format!("{tight}[[service.backend]]\nname=\"b\"\naddress=\"10.0.0.2:1\"\n"));
}

#[test]
fn line_endings_stay() {
    let text = COMMENTED.replace('\n', "\r\n");
    let edited = edit::add_backend(&text, "web", &backend("b", "10.0.0.2:1", 2)).unwrap();
    assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
    assert_eq!(edit::remove_backend(&edited, "web", "b").unwrap(), text);
}

#[test]
fn tables_of_a_service_that_stand_apart() {
    let text = "[[service]]\nname = 's'\naddress = '192.0.2.1:1'\n\n[node]\ninterfaces = ['a']\n\n\
                [[service.backend]]\nname = 'a'\naddress = '10.0.0.1:1'\n";
    let edited = edit::add_backend(text, "s", &backend("b", "10.0.0.2:1", 1)).unwrap();
    assert_eq!(config(&edited).services[0].backends.len(), 2);
    let edited = edit::remove_service(text, "s").unwrap();
    assert_eq!(edited, "[node]\ninterfaces = ['a']\n");
}

/// What looks like a table inside a string is none.
#[test]
fn strings_with_brackets() {
    let health = "[service.health]\nkind = \"http\"\nexpect_body = \"\"\"\n[[service.backend]]\n\
                  # no comment\n\"\"\"";
    let text = with(health, "");
    let edited = edit::remove_backend(&text, "web", "web-01").unwrap();
    assert_eq!(config(&edited).services[0].backends.len(), 1);
    assert_eq!(config(&edited).services[0].health, config(&text).services[0].health);
}

#[test]
fn what_is_not_there_is_named() {
    let shown = |result: Result<String, EditError>| result.unwrap_err().to_string();
    assert_eq!(
        shown(edit::remove_service(COMMENTED, "wbe")),
        "there is no service \"wbe\"; did you mean \"web\"? Known: web, dns"
    );
    assert_eq!(
        shown(edit::set_weight(COMMENTED, "web", "web-1", 2)),
        "service \"web\" has no backend \"web-1\"; did you mean \"web-01\"? Known: web-01, web-02"
    );
    let spec = backend("web-01", "10.0.0.99:1", 1);
    assert!(shown(edit::add_backend(COMMENTED, "web", &spec)).contains("is there already"));
    let spec = service("web", "192.0.2.99:1");
    assert!(shown(edit::add_service(COMMENTED, &spec)).contains("is there already"));
    let spec = service("b", "192.0.2.10:80");
    assert!(shown(edit::add_service(COMMENTED, &spec)).contains("belongs to service \"web\""));
    let spec = backend("b", "[2001:db8::1]:1", 1);
    assert!(shown(edit::add_backend(COMMENTED, "web", &spec)).contains("is IPv6"));
    assert!(matches!(edit::remove_service("[", "a"), Err(EditError::InvalidBefore(_))));
}

#[test]
fn inline_lists_are_refused_with_a_remedy() {
    let text = "node.interfaces = ['a']\nservice = [{ name = 's', address = '192.0.2.1:1' }]";
    let shown = edit::add_service(text, &service("b", "192.0.2.2:1")).unwrap_err().to_string();
    assert!(shown.contains("write each as [[service]]"), "{shown}");
    let text = "node.interfaces = ['a']\n[[service]]\nname = 's'\naddress = '192.0.2.1:1'\n\
                backend = []";
    let error = edit::add_backend(text, "s", &backend("b", "10.0.0.2:1", 1)).unwrap_err();
    assert!(error.to_string().contains("write each as [[service.backend]]"), "{error}");
}
