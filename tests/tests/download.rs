//! A long download arrives whole, over either family.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::path::Path;

use evenkeel_tests::{
    netns::succeeded,
    servers::big_file,
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
};

const MEGABYTES: usize = 100;

fn digest(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    let text = succeeded("sha256sum", output).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_hundred_megabytes_arrive_unchanged() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let original = stage.files().join("big");
    big_file(&original, MEGABYTES).unwrap();
    for family in Family::BOTH {
        let copy = stage.scratch().join("copy");
        let mut curl = stage.client().command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "120", "--output"]);
        curl.arg(&copy).arg(format!("http://{}/files/big", family.service(80)));
        succeeded("curl", curl.output().unwrap()).unwrap();
        assert_eq!(digest(&copy), digest(&original), "{family:?}");
    }
    // The bytes are the balancer's too: at least the file, once by each family's service.
    let sent = |service: &str| -> u64 {
        let count = |host: &evenkeel_tests::topology::Host| {
            stage.balancer.counters(service, &host.name).unwrap().bytes_out
        };
        stage.lab.backends.iter().map(count).sum()
    };
    let least = u64::try_from(MEGABYTES << 20).unwrap();
    assert!(sent("web") > least, "{} bytes", sent("web"));
    assert!(sent("web6") > least, "{} bytes", sent("web6"));
}
