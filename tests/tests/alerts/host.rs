//! What happens to the host: somebody writes to the tables, it gives the daemon no time, an interface goes.

use std::{process::Command, thread, time::Duration};

use evenkeel_tests::{netns::succeeded, settings::Settings};
use rustix::process::Signal;
use serde_json::Value;

use super::{FAST, cleared, raised, stage};

#[test]
fn what_happens_to_the_host() {
    let stage = stage(|lab| format!("{}{FAST}", Settings::web(lab)).replace("\"5s\"", "\"3s\""));
    let balancer = &stage.balancer;
    let page = |kind: &str| Value::from(format!("https://wiki.example/lb/playbook/{kind}.html"));
    let map = |verb: &[&str], name: &str| {
        let mut command = Command::new("bpftool");
        command.args(["-j", "map"]).args(verb).arg("pinned");
        command.arg(balancer.bpffs_path().join("maps").join(name));
        command
    };
    let dump = succeeded("bpftool", map(&["dump"], "SERVICES_V4").output().unwrap()).unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let key = dump[0]["key"].as_array().unwrap().iter();
    let key = key.map(|byte| byte.as_str().unwrap().trim_start_matches("0x").to_owned());
    let mut delete = map(&["delete"], "SERVICES_V4");
    delete.args(["key", "hex"]).args(key);
    succeeded("bpftool", delete.output().unwrap()).unwrap();
    let alert = raised(balancer, "drift");
    assert_eq!((&alert["severity"], &alert["page"]), (&"warning".into(), &page("drift")));
    assert_eq!(alert["evidence"]["repairs"], 1, "{alert}");
    assert!(alert["evidence"]["last"].as_str().unwrap().contains("service web"), "{alert}");
    cleared(balancer, "drift");

    // A host that gives the daemon no time for a while.
    balancer.signal(Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    balancer.signal(Signal::CONT).unwrap();
    let alert = raised(balancer, "probes-late");
    assert_eq!((&alert["severity"], &alert["page"]), (&"warning".into(), &page("probes-late")));
    assert!(alert["evidence"]["late_seconds"].as_f64().unwrap() >= 1.0, "{alert}");
    assert_eq!(alert["evidence"]["threshold_seconds"], 1.0, "{alert}");
    cleared(balancer, "probes-late");

    stage.lab.delete_switched().unwrap();
    let alert = raised(balancer, "interface-lost");
    assert_eq!((&alert["severity"], &alert["page"]), (&"critical".into(), &page("interface-lost")));
    assert_eq!(
        (&alert["evidence"]["lost"], &alert["evidence"]["interfaces"]),
        (&1.into(), &"back".into()),
        "{alert}"
    );
    stage.lab.recreate_switched().unwrap();
    cleared(balancer, "interface-lost");
}
