//! A, AAAA: members follow the records, by their TTL; and nothing that goes wrong with the DNS takes one away.

use evenkeel_tests::{
    load::{Load, Pattern},
    servers::Nsd,
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

use super::{
    WHILE, addresses, await_active, await_alert, await_problem, await_well, configuration,
    discovering, members, name_at, records, told,
};

/// A lab with a DNS server on its first backend, and what is needed to have it asked.
fn lab(records_of: impl Fn(&Lab) -> String) -> (Lab, Nsd, tempfile::TempDir, String) {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let directory = tempfile::Builder::new().prefix("evenkeel-dns-").tempdir().unwrap();
    let server = Nsd::start(&lab.backends[0], directory.path(), &records_of(&lab)).unwrap();
    let head = format!("[discovery]\ndns_servers = [\"{}\"]\n", lab.backends[0].v4);
    (lab, server, directory, head)
}

#[test]
fn members_follow_the_records_without_one_failed_request() {
    let pick = |lab: &Lab, hosts: &[usize]| {
        let hosts: Vec<_> = hosts.iter().map(|host| &lab.backends[*host]).collect();
        records("web", 1, &hosts)
    };
    // A name that may be kept for long, to see that it is.
    let slow = |lab: &Lab, host: usize| records("slow", 3600, &[&lab.backends[host]]);
    let (lab, mut server, _directory, head) = lab(|lab| pick(lab, &[0, 1]) + &slow(lab, 0));
    let settings = Settings::new(&lab)
        .with(discovering("web", Family::V4, "\"dns:web.internal:8080\""))
        .with(discovering("web6", Family::V6, "\"dns:web.internal:8080\""))
        .with(discovering("slow", Family::V4, "\"dns:slow.internal:8080\"").at_port(81));
    let stage = Stage::on_text(lab, &configuration(&head, &settings)).unwrap();
    let (balancer, lab) = (&stage.balancer, &stage.lab);
    for family in Family::BOTH {
        let service = if family == Family::V4 { "web" } else { "web6" };
        await_active(balancer, service, &addresses(lab, family, &[0, 1]));
    }
    await_active(balancer, "slow", &addresses(lab, Family::V4, &[0]));
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    let load6 = Load::start(stage.client(), Family::V6.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    // One comes, and what says where each is from tells it.
    server.serve(&(pick(lab, &[0, 1, 2]) + &slow(lab, 1))).unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 1, 2]));
    await_active(balancer, "web6", &addresses(lab, Family::V6, &[0, 1, 2]));
    assert_eq!(members(balancer, "slow"), addresses(lab, Family::V4, &[0]), "its TTL is not over");
    load.proceed(WHILE).unwrap();
    let third = &addresses(lab, Family::V4, &[2])[0];
    let name = name_at(balancer, "web", third);
    assert!(balancer.counters("web", &name).unwrap().connections > 0);
    let list = balancer.cli(&["backend", "list", "web"]).unwrap().success().unwrap();
    assert!(list.contains("ORIGIN") && list.contains("dns:web.internal:8080"), "{list}");

    // One that people took out stays out, also when it goes and comes back.
    let refused = balancer.cli(&["backend", "remove", "web", &name]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("backend drain"), "{refused:?}");
    let drain =
        ["backend", "drain", &format!("web/{name}"), "--for", "forever", "--reason", "new disk"];
    balancer.cli(&drain).unwrap().success().unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 1]));
    server.serve(&(pick(lab, &[0, 1]) + &slow(lab, 1))).unwrap();
    await_active(balancer, "web6", &addresses(lab, Family::V6, &[0, 1]));
    evenkeel_tests::wait::eventually("it is gone", evenkeel_tests::wait::PATIENCE, || {
        anyhow::ensure!(members(balancer, "web") == addresses(lab, Family::V4, &[0, 1]));
        Ok(())
    })
    .unwrap();
    server.serve(&(pick(lab, &[0, 1, 2]) + &slow(lab, 1))).unwrap();
    await_active(balancer, "web6", &addresses(lab, Family::V6, &[0, 1, 2]));
    evenkeel_tests::wait::eventually("it is back", evenkeel_tests::wait::PATIENCE, || {
        let backend = balancer.backend_status("web", &name)?;
        anyhow::ensure!(backend["health"] == "up", "{backend}");
        anyhow::ensure!(backend["admin"] == "drain" && backend["active"] == false, "{backend}");
        Ok(())
    })
    .unwrap();
    balancer.cli(&["backend", "resume", &format!("web/{name}")]).unwrap().success().unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 1, 2]));

    // One goes: what is open there finishes, and nothing new comes.
    server.serve(&(pick(lab, &[0, 2]) + &slow(lab, 1))).unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 2]));
    await_active(balancer, "web6", &addresses(lab, Family::V6, &[0, 2]));
    load.proceed(WHILE).unwrap();
    let before = stage.nginx[1].served("/").unwrap();
    load.proceed(WHILE).unwrap();
    assert_eq!(stage.nginx[1].served("/").unwrap(), before, "it still gets connections");
    let report = load.stop().unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend.len(), 3, "{report:?}");
    load6.stop().unwrap().flawless().unwrap();
}

#[test]
fn a_dns_that_fails_takes_nobody_away_and_a_restart_neither() {
    let two = |lab: &Lab| records("web", 1, &[&lab.backends[0], &lab.backends[1]]);
    let (lab, mut server, _directory, head) = lab(two);
    let sources = "\"dns:web.internal:8080\"";
    let settings = Settings::new(&lab).with(discovering("web", Family::V4, sources));
    let mut stage = Stage::on_text(lab, &configuration(&head, &settings)).unwrap();
    let both = addresses(&stage.lab, Family::V4, &[0, 1]);
    await_active(&stage.balancer, "web", &both);
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();

    // The name is gone, then the records, then the zone, then the server.
    server.serve("").unwrap();
    await_problem(&stage.balancer, "web", "NXDOMAIN");
    await_alert(&stage.balancer, "web", Some("NXDOMAIN"));
    server.serve("web 1 IN TXT \"no address\"\n").unwrap();
    await_problem(&stage.balancer, "web", "no such record");
    server.kill().unwrap();
    server.lose_zone().unwrap();
    server.launch(&stage.lab.backends[0]).unwrap();
    await_problem(&stage.balancer, "web", "Server Failure");
    server.kill().unwrap();
    await_problem(&stage.balancer, "web", "no server");
    assert_eq!(members(&stage.balancer, "web"), both);

    // A daemon that starts now has its backends all the same, and knows who was taken out.
    let drained = name_at(&stage.balancer, "web", &both[1]);
    let drain =
        ["backend", "drain", &format!("web/{drained}"), "--for", "1h", "--reason", "new disk"];
    stage.balancer.cli(&drain).unwrap().success().unwrap();
    stage.balancer.terminate().unwrap();
    stage.balancer.run().unwrap();
    assert_eq!(members(&stage.balancer, "web"), both);
    await_active(&stage.balancer, "web", &both[..1]);
    await_problem(&stage.balancer, "web", "no server");
    load.proceed(WHILE).unwrap();

    // It is back, with one server more.
    let all: String = {
        let hosts: Vec<_> = stage.lab.backends.iter().collect();
        records("web", 1, &hosts)
    };
    server.write(&all).unwrap();
    server.launch(&stage.lab.backends[0]).unwrap();
    await_well(&stage.balancer, "web");
    await_active(&stage.balancer, "web", &addresses(&stage.lab, Family::V4, &[0, 2]));
    await_alert(&stage.balancer, "web", None);
    let source = &told(&stage.balancer, "web").unwrap()["sources"][0];
    assert_eq!(
        (&source["backends"], &source["source"]),
        (&3.into(), &"dns:web.internal:8080".into())
    );
    load.stop().unwrap().flawless().unwrap();
}
