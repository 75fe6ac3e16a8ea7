//! `kill -9` at random moments of a start, of a change and of the end.
//!
//! How long each of them takes is measured first; moments are drawn over a little more than that. The seed
//! is printed; `EVENKEEL_SEED` sets it, and `EVENKEEL_KILLS` how many kills there are.

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    load::{Load, Pattern},
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    unix::ask,
    wait::{PATIENCE, eventually},
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Kills where nobody says how many: of each phase a third.
const KILLS: u32 = 90;

/// What is interrupted.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Start,
    Change,
    End,
}

fn settings(lab: &Lab) -> Settings {
    let web = |name, family| Service::web(name, family).backends(lab).probed(HTTP_PROBE);
    Settings::new(lab).with(web("web", Family::V4)).with(web("web6", Family::V6))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A pseudo-random sequence: Marsaglia's xorshift.
struct Random(u64);

impl Random {
    /// A part of `whole`, which is not zero.
    fn part(&mut self, whole: Duration) -> Duration {
        for (left, shift) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
        }
        let nanoseconds = u64::try_from(whole.as_nanos()).unwrap();
        Duration::from_nanos(self.0 % nanoseconds)
    }
}

/// Everything below a directory, by its name alone.
pub(crate) fn names(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(names(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        }
        found.insert(name);
    }
    found
}

/// The stage, and the two texts between which every change goes.
struct Theatre {
    stage: Stage,
    texts: [String; 2],
    pins: BTreeSet<String>,
    state: BTreeSet<String>,
    places: BTreeSet<String>,
}

impl Theatre {
    fn new(stage: Stage) -> Self {
        let text = stage.balancer.configuration().unwrap();
        let other = text.replacen("weight = 1", "weight = 2 # é", 1);
        assert_ne!(text, other);
        let drain = ["backend", "drain", "web/web-03", "--for", "1h", "--reason", "a test"];
        stage.balancer.cli(&drain).unwrap().success().unwrap();
        let mut theatre = Self {
            stage,
            texts: [text, other],
            pins: BTreeSet::new(),
            state: BTreeSet::new(),
            places: BTreeSet::new(),
        };
        theatre.pins = names(theatre.stage.balancer.bpffs_path());
        theatre.state = theatre.lasting_state();
        theatre.places = names(&theatre.stage.balancer.scratch().join("configuration"));
        theatre
    }

    /// The files of the state but for the history's entries, which have to be in pairs.
    fn lasting_state(&self) -> BTreeSet<String> {
        let all = names(&self.stage.balancer.state_path());
        let is_entry = |name: &&String| name.starts_with("history/0");
        let entries: BTreeSet<_> = all.iter().filter(is_entry).cloned().collect();
        for entry in &entries {
            let stem = entry.rsplit_once('.').unwrap().0;
            for kind in ["toml", "json"] {
                assert!(entries.contains(&format!("{stem}.{kind}")), "{stem}: {entries:?}");
            }
        }
        all.difference(&entries).cloned().collect()
    }

    /// Asks for the text that is not at work; returns whether the daemon said that it is now.
    fn change(&self) -> bool {
        let found = self.stage.balancer.configuration().unwrap();
        let other = usize::from(found == self.texts[0]);
        let body = json!({ "text": self.texts[other], "file": "other.toml", "unverified": true });
        let socket = self.stage.balancer.socket_path();
        let answer = ask(&socket, "POST", "/v1/configuration", &body.to_string());
        matches!(answer, Ok((200, _)))
    }

    fn is_ready(&self) -> Result<()> {
        let (status, _) = ask(&self.stage.balancer.socket_path(), "GET", "/v1/status", "")?;
        ensure!(status == 200, "status {status}");
        Ok(())
    }

    /// How long one takes undisturbed; the daemon runs before and after.
    fn measure(&mut self, phase: Phase) -> Duration {
        let balancer = &mut self.stage.balancer;
        match phase {
            Phase::Start => {
                balancer.terminate().unwrap();
                let began = Instant::now();
                balancer.launch().unwrap();
                eventually("it answers", PATIENCE, || self.is_ready()).unwrap();
                began.elapsed()
            }
            Phase::Change => {
                let began = Instant::now();
                assert!(self.change());
                began.elapsed()
            }
            Phase::End => {
                let began = Instant::now();
                balancer.terminate().unwrap();
                let took = began.elapsed();
                balancer.run().unwrap();
                took
            }
        }
    }

    /// Kills the daemon `after` a phase began. Returns the text that has to be at work, if one has to.
    fn kill(&mut self, phase: Phase, after: Duration) -> Option<String> {
        match phase {
            Phase::Start => {
                self.stage.balancer.kill().unwrap();
                self.stage.balancer.launch().unwrap();
                thread::sleep(after);
                self.stage.balancer.kill().unwrap();
                None
            }
            Phase::Change => {
                let before = self.stage.balancer.configuration().unwrap();
                let daemon = rustix::process::Pid::from_raw(
                    self.stage.balancer.process_id().unwrap().cast_signed(),
                );
                let changed = thread::scope(|scope| {
                    let asked = scope.spawn(|| self.change());
                    thread::sleep(after);
                    rustix::process::kill_process(daemon.unwrap(), Signal::KILL).unwrap();
                    asked.join().unwrap()
                });
                self.stage.balancer.kill().unwrap();
                // What was promised is so.
                changed.then(|| self.texts.iter().find(|text| **text != before).unwrap().clone())
            }
            Phase::End => {
                self.stage.balancer.signal(Signal::TERM).unwrap();
                thread::sleep(after);
                self.stage.balancer.kill().unwrap();
                None
            }
        }
    }

    /// Starts the daemon again and looks whether all is as it has to be.
    fn recover(&mut self, promised: Option<String>) -> Result<()> {
        let text = self.stage.balancer.configuration()?;
        ensure!(self.texts.contains(&text), "the configuration is neither of the two:\n{text}");
        ensure!(promised.is_none_or(|promised| promised == text), "a change is lost");
        self.stage.balancer.run().context("start")?;
        ensure!(self.stage.balancer.configuration()? == text, "a start changed the text");

        let history = self.stage.balancer.json(&["history"])?;
        let last = history["entries"].as_array().and_then(|entries| entries.last());
        let last = last.and_then(|last| last["number"].as_u64()).context("no history")?;
        let (_, entry) =
            ask(&self.stage.balancer.socket_path(), "GET", &format!("/v1/history/{last}"), "")?;
        let entry: Value = serde_json::from_str(&entry)?;
        ensure!(entry["text"] == text, "the history's last is another: {entry}");

        let drained = self.stage.balancer.backend_status("web", "web-03")?;
        ensure!(drained["admin"] == "drain", "the drain is forgotten: {drained}");
        let state = self.lasting_state();
        ensure!(state == self.state, "the state has other files: {state:?}");
        let pins = names(self.stage.balancer.bpffs_path());
        ensure!(pins == self.pins, "other pins: {pins:?}");
        let places = names(&self.stage.balancer.scratch().join("configuration"));
        ensure!(places == self.places, "files beside the configuration: {places:?}");
        Ok(())
    }
}

#[test]
fn killed_at_random_moments_without_one_failed_request() {
    let kills = number("EVENKEEL_KILLS").unwrap_or(KILLS.into());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("EVENKEEL_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("EVENKEEL_SEED={seed}, {kills} kills");
    let mut random = Random(seed | 1 << 40);

    let mut stage = Stage::new(Wiring::Switched, 3, settings).unwrap();
    // In a directory of its own, so that what is left beside it shows; written through a link.
    stage.balancer.terminate().unwrap();
    let directory = stage.balancer.scratch().join("configuration");
    fs::create_dir(&directory).unwrap();
    fs::rename(stage.balancer.config_path(), directory.join("evenkeel.toml")).unwrap();
    std::os::unix::fs::symlink(directory.join("evenkeel.toml"), stage.balancer.config_path())
        .unwrap();
    stage.balancer.run().unwrap();
    for backend in ["web-01", "web-02", "web-03"] {
        stage.balancer.await_active("web", backend, true).unwrap();
    }
    let mut theatre = Theatre::new(stage);

    let pattern = Pattern { threads: 4, pause: Duration::from_millis(5), ..Pattern::default() };
    let service = Family::V4.service(80);
    let load = Load::start(theatre.stage.client(), service, pattern).unwrap();
    let kept = Pattern { keep_alive: true, threads: 2, ..pattern };
    let kept = Load::start(theatre.stage.client(), Family::V6.service(80), kept).unwrap();
    load.proceed(50).unwrap();

    let phases = [Phase::Start, Phase::Change, Phase::End];
    let longest = phases.map(|phase| {
        let times = [(); 3].map(|()| theatre.measure(phase));
        println!("{phase:?}: {times:?}");
        *times.iter().max().unwrap()
    });
    for kill in 0..usize::try_from(kills).unwrap() {
        let (phase, longest) = (phases[kill % 3], longest[kill % 3]);
        let after = random.part(longest * 5 / 4);
        let promised = theatre.kill(phase, after);
        theatre
            .recover(promised)
            .with_context(|| format!("kill {kill}, {after:?} into {phase:?}, seed {seed}"))
            .unwrap();
        assert_eq!((load.failures(), kept.failures()), (0, 0), "{after:?} into {phase:?}");
    }
    load.proceed(50).unwrap();
    let (load, kept) = (load.stop().unwrap(), kept.stop().unwrap());
    println!("{} requests, and {} on connections that were kept", load.ok, kept.ok);
    load.flawless().unwrap();
    kept.flawless().unwrap();
    let opened = |backend: &str| theatre.stage.balancer.counters("web", backend).unwrap();
    let opened = ["web-01", "web-02", "web-03"].map(|backend| opened(backend).connections);
    assert_eq!(opened.iter().sum::<u64>(), load.ok, "every connection is counted once");
}
