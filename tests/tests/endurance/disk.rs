//! A disk that is full or read-only, under the configuration and under the state: what cannot be noted is not
//! done, what is at work goes on, and the next change works once there is room again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use evenkeel_tests::{
    evenkeel::{Balancer, Outcome},
    load::{Load, Pattern},
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

use serde_json::Value;

use super::{crash::names, mount::Mounted};

/// How a disk is made to take nothing more, and what the errors call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Full,
    ReadOnly,
}

impl Trouble {
    const BOTH: [Self; 2] = [Self::Full, Self::ReadOnly];

    fn says(self) -> (&'static str, &'static str) {
        match self {
            Self::Full => ("No space left on device", "make room there"),
            Self::ReadOnly => ("Read-only file system", "make it writable"),
        }
    }
}

/// A disk in trouble; dropping it ends that.
struct Troubled<'a> {
    disk: &'a Mounted,
    filling: Option<PathBuf>,
}

impl<'a> Troubled<'a> {
    fn new(disk: &'a Mounted, trouble: Trouble) -> Self {
        let filling = match trouble {
            Trouble::Full => Some(disk.fill().unwrap()),
            Trouble::ReadOnly => {
                disk.set_read_only(true).unwrap();
                None
            }
        };
        Self { disk, filling }
    }
}

impl Drop for Troubled<'_> {
    fn drop(&mut self) {
        match &self.filling {
            Some(filling) => fs::remove_file(filling).unwrap(),
            None => self.disk.set_read_only(false).unwrap(),
        }
    }
}

/// Two servers, a balancer, and the disks of its configuration and of its state.
struct Theatre {
    // Dropped in order: the balancer stops before its disks go.
    balancer: Balancer,
    configuration: Mounted,
    state: Mounted,
    servers: Vec<TinyWeb>,
    lab: Lab,
}

impl Theatre {
    fn new() -> Self {
        let lab = Lab::new(Wiring::Switched, 2).unwrap();
        let servers = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
        // A server here falls again and again, and shall return at once.
        let probe = format!("{HTTP_PROBE}flap_damping = false\n");
        let web = Service::web("web", Family::V4).backends(&lab).probed(&probe);
        let text = Settings::new(&lab).with(web).to_string();
        let mut balancer = Balancer::prepare(&lab, &text).unwrap();
        let directory = balancer.scratch().join("configuration");
        let configuration = Mounted::memory(&directory, "256k").unwrap();
        fs::remove_file(balancer.config_path()).unwrap();
        symlink(directory.join("evenkeel.toml"), balancer.config_path()).unwrap();
        fs::write(directory.join("evenkeel.toml"), text).unwrap();
        let state = Mounted::memory(&balancer.state_path(), "256k").unwrap();
        balancer.run().unwrap();
        for backend in ["web-01", "web-02"] {
            balancer.await_active("web", backend, true).unwrap();
        }
        Self { balancer, configuration, state, servers, lab }
    }

    fn load(&self) -> Load {
        let client = &self.lab.client.namespace;
        let load = Load::start(client, Family::V4.service(80), Pattern::default()).unwrap();
        load.proceed(50).unwrap();
        load
    }

    fn cli(&self, arguments: &[&str]) -> Outcome {
        self.balancer.cli(arguments).unwrap()
    }

    /// A command that has to fail, naming the file, the trouble and the way out.
    fn fails(&self, arguments: &[&str], file: &Path, trouble: Trouble) {
        let outcome = self.cli(arguments);
        assert_eq!(outcome.code, 1, "{trouble:?}: {arguments:?}: {outcome:?}");
        let (what, way_out) = trouble.says();
        for part in [what, way_out, file.to_str().unwrap()] {
            assert!(outcome.stderr.contains(part), "{part:?}: {arguments:?}: {outcome:?}");
        }
    }

    /// Probes go on, and take a backend out and back whatever the disk is like.
    fn probes_work(&self) {
        self.servers[1].set_sick(true);
        self.balancer.await_active("web", "web-02", false).unwrap();
        self.servers[1].set_sick(false);
        self.balancer.await_active("web", "web-02", true).unwrap();
    }

    fn events(&self) -> Vec<Value> {
        let page = self.balancer.json(&["events", "-n", "4096"]).unwrap();
        page["events"].as_array().unwrap().clone()
    }

    /// What happens is told by the daemon, whose memory has it, and that no more than memory has it.
    fn events_go_on(&self, trouble: Trouble) {
        let told = || {
            let status = self.balancer.status().unwrap();
            let troubles = status["daemon"]["troubles"].as_array().cloned().unwrap_or_default();
            let mut texts = troubles.iter().filter_map(Value::as_str);
            texts.find(|text| text.contains("events are in memory alone")).map(str::to_owned)
        };
        let before = self.events().len();
        // A full disk has room for a few yet, in the last page of the file.
        let told = (0..20).find_map(|_| {
            self.probes_work();
            told()
        });
        let told = told.expect("the trouble is told");
        let (what, way_out) = trouble.says();
        assert!(told.contains(what) && told.contains(way_out), "{trouble:?}: {told}");
        let events = self.events();
        let fallen = events[before..].iter().filter(|event| {
            event["kind"] == "health" && event["message"].as_str().unwrap().contains("is down")
        });
        assert!(fallen.count() > 0, "{trouble:?}: {events:?}");
    }

    /// There is room again: the files have what memory has.
    fn events_are_stored(&self) {
        let file = self.state.path().join("events/events.jsonl");
        eventually("events are stored", PATIENCE, || {
            let status = self.balancer.status()?;
            anyhow::ensure!(status["daemon"]["troubles"].is_null(), "{status}");
            let text = fs::read_to_string(&file)?;
            let lines = text.lines().map(serde_json::from_str);
            let stored: Vec<Value> = lines.collect::<Result<_, _>>()?;
            let events = self.events();
            anyhow::ensure!(stored == events, "{stored:?} are not {events:?}");
            Ok(())
        })
        .unwrap();
    }

    fn weight(&self) -> u64 {
        self.balancer.backend_status("web", "web-01").unwrap()["weight"].as_u64().unwrap()
    }
}

#[test]
fn what_cannot_be_noted_is_not_done_and_all_else_goes_on() {
    let theatre = Theatre::new();
    let (state, configuration) = (theatre.state.path(), theatre.configuration.path());
    let load = theatre.load();
    for (weight, trouble) in (2..).step_by(2).zip(Trouble::BOTH) {
        let text = theatre.balancer.configuration().unwrap();
        let number = weight.to_string();
        let change = ["backend", "weight", "web", "web-01", &number];
        let drain = ["backend", "drain", "web/web-02", "--for", "1h", "--reason", "a test"];

        // What is raised is noted when it comes: the file may be there before, or not until later.
        let files = || {
            let mut state = names(state);
            state.remove("alerts.json");
            (state, names(configuration))
        };
        let before = files();
        {
            let _troubled = Troubled::new(&theatre.state, trouble);
            theatre.fails(&change, &state.join("history"), trouble);
            theatre.fails(&drain, &state.join("exceptions.json"), trouble);
            theatre.events_go_on(trouble);
        }
        theatre.events_are_stored();
        {
            let _troubled = Troubled::new(&theatre.configuration, trouble);
            theatre.fails(&change, Path::new("evenkeel.toml"), trouble);
        }
        let web_02 = theatre.balancer.backend_status("web", "web-02").unwrap();
        assert_eq!(web_02["admin"], "ready", "{trouble:?}: {web_02}");
        assert_ne!(theatre.weight(), weight, "{trouble:?}");
        assert_eq!(theatre.balancer.configuration().unwrap(), text, "{trouble:?}");
        assert_eq!(files(), before, "{trouble:?}");

        // There is room again.
        theatre.cli(&change).success().unwrap();
        assert_eq!(theatre.weight(), weight);
        theatre.cli(&drain).success().unwrap();
        {
            let _troubled = Troubled::new(&theatre.state, trouble);
            let resume = ["backend", "resume", "web/web-02"];
            theatre.fails(&resume, &state.join("exceptions.json"), trouble);
            let web_02 = theatre.balancer.backend_status("web", "web-02").unwrap();
            assert_eq!(web_02["admin"], "drain", "{trouble:?}: {web_02}");
        }
        theatre.cli(&["backend", "resume", "web/web-02"]).success().unwrap();
    }
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn a_daemon_starts_with_a_disk_that_takes_nothing_and_says_so() {
    let mut theatre = Theatre::new();
    let drain = ["backend", "drain", "web/web-02", "--for", "1h", "--reason", "a test"];
    theatre.cli(&drain).success().unwrap();
    let load = theatre.load();
    for trouble in Trouble::BOTH {
        theatre.balancer.terminate().unwrap();
        // Edited meanwhile: the history has to have it.
        let text = theatre.balancer.configuration().unwrap();
        let text = format!("# {trouble:?}\n{text}");
        fs::write(theatre.configuration.path().join("evenkeel.toml"), &text).unwrap();

        let troubled = Troubled::new(&theatre.state, trouble);
        theatre.balancer.run().unwrap();
        let status = theatre.balancer.status().unwrap();
        let told = status["daemon"]["troubles"][0].as_str().unwrap_or_default().to_owned();
        let (what, way_out) = trouble.says();
        assert!(told.contains(what) && told.contains(way_out), "{trouble:?}: {status}");
        let screen = theatre.cli(&["status"]).success().unwrap();
        assert!(screen.contains(&format!("! {told}")), "{trouble:?}: {screen}");
        let web_02 = theatre.balancer.backend_status("web", "web-02").unwrap();
        assert_eq!(web_02["admin"], "drain", "{trouble:?}: the exception is known: {web_02}");
        let history = theatre.state.path().join("history");
        theatre.fails(&["backend", "weight", "web", "web-01", "9"], &history, trouble);
        load.proceed(50).unwrap();

        drop(troubled);
        eventually("the trouble is over", PATIENCE, || {
            let status = theatre.balancer.status()?;
            anyhow::ensure!(status["daemon"]["troubles"].is_null(), "{status}");
            Ok(())
        })
        .unwrap();
        let history = theatre.balancer.json(&["history"]).unwrap();
        let last = history["entries"].as_array().unwrap().last().unwrap().clone();
        assert!(last["what"].as_str().unwrap().contains("which was edited"), "{last}");
        theatre.cli(&["backend", "weight", "web", "web-01", "3"]).success().unwrap();
        theatre.cli(&["backend", "weight", "web", "web-01", "1"]).success().unwrap();
    }
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}
