//! Declared and discovered backends together: from one to the other without a gap, and people's edits beside them.

use std::fs;

use evenkeel_tests::{
    load::{Load, Pattern},
    servers::PORT,
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

use super::{WHILE, addresses, await_active, await_problem, configuration, discovering, told};

fn slice(lab: &Lab, hosts: &[usize]) -> String {
    let endpoint = |host: &usize| format!("- addresses: [{}]\n", lab.backends[*host].v4);
    let endpoints: String = hosts.iter().map(endpoint).collect();
    format!(
        "kind: EndpointSlice\naddressType: IPv4\nports:\n- port: {PORT}\nendpoints:\n{endpoints}"
    )
}

#[test]
fn a_service_goes_from_declared_to_discovered_and_back_without_a_gap() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let directory = tempfile::Builder::new().prefix("evenkeel-mixed-").tempdir().unwrap();
    let path = directory.path().join("web.yaml");
    fs::write(&path, slice(&lab, &[0, 1, 2])).unwrap();
    let sources = format!("\"file:{}\"", path.display());
    let discovered = discovering("web", Family::V4, &sources).line("min_active = 2");
    let both = discovered.clone().backend(&lab.backends[0], 1).backend(&lab.backends[1], 1);
    let text = |service| configuration("", &Settings::new(&lab).with(service));
    let (discovered, both) = (text(discovered), text(both));
    let stage = Stage::on_text(lab, &both).unwrap();
    let (balancer, lab) = (&stage.balancer, &stage.lab);
    let all = addresses(lab, Family::V4, &[0, 1, 2]);
    await_active(balancer, "web", &all);
    let origins = || {
        let told = told(balancer, "web").unwrap();
        let backends = told["backends"].as_array().unwrap().clone();
        backends.into_iter().map(|backend| backend["origin"].as_str().unwrap().to_owned())
    };
    let source = sources.trim_matches('"');
    assert_eq!(origins().collect::<Vec<_>>(), ["declared", "declared", source]);
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    // The text names none any more: they are the same servers, and up.
    balancer.configure(&discovered).unwrap();
    let plan = balancer.json(&["plan", balancer.config_path().to_str().unwrap()]).unwrap();
    assert_eq!(plan["services"][0]["fate"], "kept", "{plan}");
    balancer.cli(&["reload"]).unwrap().success().unwrap();
    assert_eq!(origins().collect::<Vec<_>>(), [source, source, source]);
    assert_eq!(super::those(balancer, "web", "active", &true.into()).unwrap(), all);
    load.proceed(WHILE).unwrap();

    // An edit keeps `discover`, and a declared one has the name that it is given.
    let first = &all[0];
    let added =
        balancer.cli(&["backend", "add", "web", "by-hand", first, "--weight", "2"]).unwrap();
    added.success().unwrap();
    assert!(balancer.configuration().unwrap().contains(&sources));
    await_active(balancer, "web", &all);
    assert_eq!(origins().collect::<Vec<_>>(), ["declared", source, source]);
    balancer.cli(&["backend", "remove", "web", "by-hand"]).unwrap().success().unwrap();
    await_active(balancer, "web", &all);

    // Too few at once are believed when they are said twice; then they are.
    fs::write(&path, slice(lab, &[2])).unwrap();
    await_active(balancer, "web", &all[2..]);
    let events = balancer.cli(&["events", "--kind", "discovery"]).unwrap().success().unwrap();
    assert!(events.contains("1 of 3") && events.contains("answers again"), "{events}");
    load.proceed(WHILE).unwrap();

    // Back to the earlier text: its own two are there, and so is the other.
    balancer.cli(&["rollback", "1", "--force"]).unwrap().success().unwrap();
    await_active(balancer, "web", &all);
    fs::write(&path, "kind: Service\n").unwrap();
    await_problem(balancer, "web", "Service");
    eventually("the load goes on", PATIENCE, || {
        load.proceed(WHILE)?;
        Ok(())
    })
    .unwrap();
    load.stop().unwrap().flawless().unwrap();
}
