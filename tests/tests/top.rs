//! `evenkeel top` in a terminal, with a real daemon, real servers and real traffic: what is on the screen, what
//! keys do, and what is left behind.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{fs, time::Duration};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Balancer,
    load::{Load, Pattern},
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    tmux::Tmux,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use rustix::process::{Pid, Signal, kill_process};

/// A steady trickle; three of four connections are web-02's.
const TRICKLE: Pattern =
    Pattern { threads: 4, keep_alive: false, pause: Duration::from_millis(10) };

fn settings(lab: &Lab) -> Settings {
    let [first, second] = &lab.backends[..] else { panic!("two backends") };
    let web = Service::web("web", Family::V4).backend(first, 1).backend(second, 3);
    Settings::new(lab).with(web.line("min_active = 1").probed(HTTP_PROBE))
}

fn stage() -> Stage {
    let stage = Stage::new(Wiring::Switched, 2, settings).unwrap();
    for backend in ["web-01", "web-02"] {
        stage.balancer.await_active("web", backend, true).unwrap();
    }
    stage
}

/// A shell's line that runs a command of the program under test and tells how it ended.
fn line(balancer: &Balancer, before: &str, arguments: &str) -> String {
    format!(
        "{before} {} --socket {} {arguments}; echo ended $?",
        balancer.binary_path().display(),
        balancer.socket_path().display()
    )
}

fn start(tmux: &Tmux, balancer: &Balancer, before: &str) {
    tmux.line(&line(balancer, before, "top --interval 0.3")).unwrap();
    tmux.await_text("?:help").unwrap();
}

/// Closes what shows a text.
fn escape(tmux: &Tmux, text: &str) {
    tmux.key("Escape").unwrap();
    tmux.await_screen("it is closed", |screen| !screen.contains(text)).unwrap();
}

/// The columns of a backend's or service's row.
fn row(screen: &str, name: &str) -> Option<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    screen.lines().map(words).find(|words| words.first().is_some_and(|first| first == name))
}

/// The state that a row shows.
fn await_state(tmux: &Tmux, name: &str, state: &str) -> String {
    let is = |screen: &str| row(screen, name).is_some_and(|row| row[1] == state);
    tmux.await_screen(&format!("{name} is {state}"), is).unwrap()
}

/// Quits, and looks at what is left of the terminal.
fn await_clean(tmux: &Tmux) {
    tmux.await_screen("it has ended well", |screen| screen.contains("\nended 0")).unwrap();
    let state = ["alternate_on", "cursor_flag"].map(|name| tmux.variable(name).unwrap());
    assert_eq!(state, ["0", "1"], "the usual screen, with a cursor");
    tmux.line("clear; stty -a").unwrap();
    let settings = tmux.await_text("iexten").unwrap();
    assert!(settings.contains(" icanon ") && settings.contains(" echo "), "{settings}");
    tmux.line("clear").unwrap();
    tmux.await_screen("the screen is clear", |screen| !screen.contains("iexten")).unwrap();
}

#[test]
fn it_shows_what_passes_and_gives_the_terminal_back() {
    let mut stage = stage();
    let load = Load::start(stage.client(), Family::V4.service(80), TRICKLE).unwrap();
    load.proceed(100).unwrap();
    let tmux = Tmux::new(100, 30).unwrap();
    tmux.line("echo before").unwrap();
    start(&tmux, &stage.balancer, "");

    // What the counters say of the same time.
    let before = stage.balancer.counters("web", "web-02").unwrap().connections;
    load.proceed(200).unwrap();
    assert!(stage.balancer.counters("web", "web-02").unwrap().connections > before);
    let screen = tmux
        .await_screen("the shares are those of the weights", |screen| {
            let share =
                |name| row(screen, name).is_some_and(|row| row[3] == "25.0%" || row[3] == "75.0%");
            let passes = |name: &str| {
                let line = screen.lines().find(|line| line.trim_start().starts_with(name));
                line.is_some_and(|line| line.contains('█') && line.contains('┃'))
            };
            ["web-01", "web-02"].iter().all(|name| share(name) && passes(name))
        })
        .unwrap();
    assert!(screen.starts_with("evenkeel ") && screen.contains("web  "), "{screen}");

    let order = |screen: &str| screen.find("  web-01").unwrap() < screen.find("  web-02").unwrap();
    assert!(order(&screen), "{screen}");
    tmux.key("C").unwrap();
    tmux.await_screen("the busier one is first", |screen| !order(screen)).unwrap();
    tmux.key("N").unwrap();
    tmux.await_screen("names rise", order).unwrap();
    tmux.text("/-02").unwrap();
    tmux.key("Enter").unwrap();
    tmux.await_screen("one is left", |screen| !screen.contains("  web-01")).unwrap();
    tmux.key("Escape").unwrap();
    tmux.await_text("  web-01").unwrap();
    tmux.text("?").unwrap();
    tmux.await_text("the other way round").unwrap();
    // An escape that another key follows at once is the beginning of that key.
    escape(&tmux, "the other way round");
    tmux.key("End").unwrap();
    tmux.key("Enter").unwrap();
    tmux.await_text("web/web-02  ").unwrap();

    for (width, height, shows) in
        [(50, 10, "needs 60x15"), (60, 15, "web-02"), (140, 40, "HEALTH"), (80, 24, "P99")]
    {
        tmux.resize(width, height).unwrap();
        tmux.await_text(shows).unwrap();
    }

    // What a slow link has to carry.
    let bytes = tmux.record().unwrap();
    let seen = |pictures: usize| {
        let path = &bytes;
        eventually("it is painted again", PATIENCE, move || {
            let written = fs::read(path)?;
            let painted = written.windows(8).filter(|part| *part == b"\x1b[?2026h").count();
            ensure!(painted >= pictures, "{painted} times, {} bytes", written.len());
            Ok(written.len() / painted)
        })
        .unwrap()
    };
    let each = seen(10);
    assert!(each < 500, "{each} bytes for each picture of 80 by 24");

    stage.nginx[1].crash().unwrap();
    await_state(&tmux, "web-02", "down");
    stage.nginx[1].launch(&stage.lab.backends[1]).unwrap();
    await_state(&tmux, "web-02", "active");

    stage.balancer.terminate().unwrap();
    let silent = tmux.await_text("no answer since ").unwrap();
    assert!(row(&silent, "web-02").is_some(), "what was known is still there: {silent}");
    stage.balancer.run().unwrap();
    tmux.await_screen("it answers again", |screen| !screen.contains("no answer since")).unwrap();

    tmux.text("q").unwrap();
    let left = tmux.await_text("ended 0").unwrap();
    assert!(left.contains("\nbefore") && !left.contains("SERVICE/BACKEND"), "{left}");
    await_clean(&tmux);

    // However else it ends.
    start(&tmux, &stage.balancer, "");
    tmux.key("C-c").unwrap();
    await_clean(&tmux);
    let pid = tmux.directory().join("pid");
    let note = format!("sh -c 'echo $$ > {}; exec \"$@\"' -", pid.display());
    start(&tmux, &stage.balancer, &note);
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    await_clean(&tmux);

    // Terminals that can do less.
    start(&tmux, &stage.balancer, "NO_COLOR=1");
    let screen = tmux.coloured_screen().unwrap();
    let colours = (30..38).chain(90..98).map(|code| code.to_string());
    for code in colours {
        assert!(!screen.contains(&format!("[{code}m")) && !screen.contains(&format!(";{code}m")));
    }
    tmux.text("q").unwrap();
    await_clean(&tmux);
    start(&tmux, &stage.balancer, "LC_ALL=C");
    let screen = tmux.await_text("web-02").unwrap();
    assert!(screen.is_ascii(), "{screen}");
    tmux.text("q").unwrap();
    await_clean(&tmux);
}

#[test]
fn a_backend_is_drained_and_resumed_when_somebody_says_yes() {
    let stage = stage();
    let balancer = &stage.balancer;
    let admin = || balancer.backend_status("web", "web-01").unwrap()["admin"].clone();
    let tmux = Tmux::new(100, 30).unwrap();
    start(&tmux, balancer, "");
    let ask = |answer: &str| {
        tmux.text("d").unwrap();
        tmux.await_text("For how long: 30m_").unwrap();
        tmux.key("Enter").unwrap();
        tmux.text("kernel upgrade").unwrap();
        tmux.key("Enter").unwrap();
        tmux.await_text("Do it?").unwrap();
        tmux.text(answer).unwrap();
    };

    tmux.key("Down").unwrap();
    ask("n");
    tmux.await_text("nothing was changed").unwrap();
    assert_eq!(admin(), "ready");

    ask("y");
    await_state(&tmux, "web-01", "drain");
    let answered =
        |screen: &str| screen.contains("evenkeel says") || !screen.contains("asked the daemon");
    tmux.await_screen("the daemon has answered", answered).unwrap();
    escape(&tmux, "evenkeel says");
    assert_eq!(admin(), "drain");
    let told = balancer.backend_status("web", "web-01").unwrap();
    assert_eq!(told["exception"]["reason"], "kernel upgrade", "{told}");
    let left = told["exception"]["seconds_left"].as_u64().unwrap();
    assert!((1_700..=1_800).contains(&left), "{told}");

    // The last one stays, and the daemon's words say why.
    tmux.key("Down").unwrap();
    ask("y");
    let refused = tmux.await_text("evenkeel says").unwrap();
    assert!(refused.contains("min_active is 1"), "{refused}");
    escape(&tmux, "evenkeel says");
    assert_eq!(balancer.backend_status("web", "web-02").unwrap()["admin"], "ready");

    tmux.key("Up").unwrap();
    tmux.text("r").unwrap();
    let asked = tmux.await_text("Do it?").unwrap();
    assert!(asked.contains("kernel upgrade") && asked.contains("root"), "{asked}");
    tmux.text("y").unwrap();
    await_state(&tmux, "web-01", "active");
    assert_eq!(admin(), "ready");
}

#[test]
fn counters_are_watched_in_place_on_a_terminal_and_appended_elsewhere() {
    let stage = stage();
    let balancer = &stage.balancer;
    let elsewhere = balancer.cli(&["top"]).unwrap();
    assert_eq!((elsewhere.code, elsewhere.stdout.as_str()), (1, ""), "{elsewhere:?}");
    for way in ["counters --watch", "status"] {
        assert!(elsewhere.stderr.contains(way), "{elsewhere:?}");
    }

    let load = Load::start(stage.client(), Family::V4.service(80), TRICKLE).unwrap();
    let tmux = Tmux::new(120, 30).unwrap();
    tmux.line(&line(balancer, "", "counters --watch 0.2 --rate web")).unwrap();
    let connections = |screen: &str| {
        let row = screen.lines().find(|line| line.contains("web-02"))?;
        let word = row.split_whitespace().nth(2)?.replace(',', "");
        word.parse().ok().filter(|rate: &u64| *rate > 0)
    };
    let first = tmux.await_screen("a rate", |screen| connections(screen).is_some()).unwrap();
    assert!(first.contains("CONNECTIONS/S"), "{first}");
    let time = |screen: &str| screen.lines().next().unwrap_or_default().to_owned();
    tmux.await_screen("it goes on", |screen| time(screen) != time(&first)).unwrap();
    let screen = tmux.screen().unwrap();
    assert_eq!(screen.matches("CONNECTIONS/S").count(), 1, "in place: {screen}");
    tmux.key("C-c").unwrap();
    tmux.await_screen("the shell is back", |screen| screen.trim_end().ends_with("^C\n$")).unwrap();
    load.stop().unwrap().flawless().unwrap();

    let file = tmux.directory().join("lines");
    let redirected = format!("timeout 2 {}", line(balancer, "", "counters --watch 0.2 -o json"));
    let redirected = redirected.replace("; echo", &format!("> {}; echo", file.display()));
    tmux.line(&redirected).unwrap();
    tmux.await_text("ended 124").unwrap();
    let lines = fs::read_to_string(file).unwrap();
    assert!(lines.lines().count() > 1, "{lines}");
    for line in lines.lines() {
        let counters: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(counters["services"][0]["name"], "web");
    }
}
