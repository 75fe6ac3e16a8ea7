//! The BPF file system is unmounted under a daemon: what is at work goes on, is told as trouble, and is
//! pinned again once there is a file system again.

use anyhow::{Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    load::{Load, Pattern, requests},
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

use super::{crash::names, mount::Mounted};

/// What `status` says is wrong with the daemon.
fn troubles(balancer: &Balancer) -> Result<String> {
    Ok(balancer.status()?["daemon"]["troubles"].to_string())
}

fn await_troubles(balancer: &Balancer, part: &str) {
    eventually(&format!("there is trouble with {part:?}"), PATIENCE, || {
        let troubles = troubles(balancer)?;
        ensure!(troubles.contains(part), "{troubles}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn unmounted_under_a_daemon_and_mounted_again() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let web = Service::web("web", Family::V4).backends(&lab).probed(HTTP_PROBE);
    let text = Settings::new(&lab).with(web).to_string();
    let directory = tempfile::tempdir().unwrap();
    let mut mounted = Mounted::bpf(directory.path()).unwrap();
    let mut balancer = Balancer::prepare(&lab, &text).unwrap();
    balancer.pin_below(&directory.path().join("evenkeel"));
    balancer.run().unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
    let pins = names(balancer.bpffs_path());
    let client = &lab.client.namespace;
    let load = Load::start(client, Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(100).unwrap();

    mounted.unmount().unwrap();
    await_troubles(&balancer, "were gone");
    let told = troubles(&balancer).unwrap();
    assert!(
        told.contains("mount -t bpf") && told.contains("is not on a BPF file system"),
        "{told}"
    );
    assert!(names(directory.path()).is_empty(), "something is hidden below the mount point");
    load.proceed(100).unwrap();
    // It goes on changing what is at work.
    balancer.cli(&["backend", "weight", "web", "web-01", "2"]).unwrap().success().unwrap();
    load.proceed(100).unwrap();

    mounted.mount_bpf().unwrap();
    await_troubles(&balancer, "null");
    assert_eq!(names(balancer.bpffs_path()), pins);
    let status = balancer.status().unwrap();
    let what = status["daemon"]["last_repair"]["what"].as_str().unwrap_or_default();
    assert!(what.contains("were gone"), "{status}");
    // One alone is put back, too: without the daemon it would be the one that counts.
    std::fs::remove_file(balancer.bpffs_path().join("links/front")).unwrap();
    eventually("the link is pinned again", PATIENCE, || {
        ensure!(names(balancer.bpffs_path()) == pins, "not yet");
        Ok(())
    })
    .unwrap();

    // As before the daemon may die, and another one takes over.
    balancer.kill().unwrap();
    load.proceed(100).unwrap();
    balancer.run().unwrap();
    load.proceed(100).unwrap();
    load.stop().unwrap().flawless().unwrap();

    // Without pins nothing outlives the daemon; a start says what to do.
    mounted.unmount().unwrap();
    await_troubles(&balancer, "were gone");
    balancer.terminate().unwrap();
    assert!(balancer.log().contains("ends with this daemon"), "{}", balancer.log());
    let refused = balancer.run_refused().unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("mount -t bpf"), "{refused:?}");
    mounted.mount_bpf().unwrap();
    balancer.run().unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    requests(client, Family::V4.service(80), 50, 4).unwrap().flawless().unwrap();
}
