//! The dashboard in a real browser, over a real balancer: what happens is seen without loading the page again,
//! by everybody.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{collections::BTreeSet, process::Command};

use evenkeel_tests::{
    browser::{Browser, dashboard},
    evenkeel::Balancer,
    load::{Load, Pattern},
    netns::succeeded,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

/// Where the daemon serves it unless the configuration says otherwise.
const URL: &str = "http://127.0.0.1:9650/";
/// An alert rises and clears in a moment rather than in half a minute.
const QUICK: &str = "\n[alerts]\nraise_after = \"1s\"\nclear_after = \"2s\"\n";
/// The alert of a server that was killed.
const DOWN: &str = "[data-alert=\"backend-down/web/web-02\"]";
/// More than are opened at first.
const MANY: u16 = 40;

/// The page of a lab's edge, after it has heard of the balancer.
fn look(lab: &Lab) -> Browser {
    let mut page = Browser::start(&lab.edge.namespace).unwrap();
    page.prefer("dark").unwrap();
    let (status, headers) = page.open(URL).unwrap();
    assert_eq!(status, 200);
    let policy = headers["content-security-policy"].as_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let live = "document.documentElement.dataset.stream === 'live'";
    page.until("the stream is live", live).unwrap();
    page
}

/// The row of a backend of the service `web`.
fn row(backend: &str) -> String {
    format!("[data-service=web] .backend[data-backend={backend}]")
}

/// The first element that a selector finds, in a script.
fn first(selector: &str) -> String {
    format!("document.querySelector('{selector}')")
}

fn await_state(page: &mut Browser, backend: &str, state: &str) {
    let script = format!("{}?.dataset.state === '{state}'", first(&row(backend)));
    page.until(&format!("the page shows {backend} as {state}"), &script).unwrap();
}

/// Waits until the text of an element matches a regular expression.
fn await_text(page: &mut Browser, selector: &str, pattern: &str) {
    let script = format!("/{pattern}/.test({}?.textContent)", first(selector));
    page.until(&format!("{selector} says {pattern}"), &script).unwrap();
}

fn assert_accessible(page: &mut Browser, what: &str) {
    let found = page.accessibility().unwrap();
    assert!(found.passed > 20, "{what}: only {} rules applied", found.passed);
    assert!(found.serious.is_empty(), "{what}: {:#?}", found.serious);
}

#[test]
fn what_happens_is_seen_without_loading_the_page_again() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let web = Service::web("web", Family::V4).backends(&lab).probed(HTTP_PROBE);
    let text = format!("{}{QUICK}", Settings::new(&lab).with(web));
    let mut stage = Stage::on_text(lab, &text).unwrap();
    let mut page = look(&stage.lab);
    page.evaluate("window.neverLoadedAgain = true").unwrap();
    for backend in ["web-01", "web-02", "web-03"] {
        await_state(&mut page, backend, "active");
    }
    let pattern = Pattern::default();
    let load = Load::start(stage.client(), Family::V4.service(80), pattern).unwrap();
    the_load_is_seen(&mut page);
    a_crash_is_seen(&mut page, &mut stage);
    a_drain_is_seen(&mut page, &stage.balancer);
    an_edit_is_told(&mut page, &stage.balancer);
    assert_eq!(page.errors().unwrap(), Vec::<String>::new());
    assert_own(&mut page);
    load.stop().unwrap();
    the_daemon_dies_and_comes_back(&mut page, &mut stage.balancer);
    assert_eq!(page.evaluate("window.neverLoadedAgain").unwrap(), true);
}

fn the_load_is_seen(page: &mut Browser) {
    for part in ["part-connections", "part-in", "part-out", "part-share", "part-p50", "part-p99"] {
        await_text(page, &format!("{} .{part}", row("web-01")), "[1-9]");
    }
    await_text(page, "[data-total=connections]", "[1-9]");
    let place =
        |part| format!("{}.getBoundingClientRect()", first(&format!("{} .{part}", row("web-01"))));
    let (bar, mark) = (place("bar-fill"), place("bar-mark"));
    page.until("a share has its bar", &format!("{bar}.width > 20")).unwrap();
    page.until("and the fair share its mark", &format!("{mark}.left > {bar}.left + 20")).unwrap();
    let charts = "document.querySelectorAll('[data-service=web] canvas').length";
    page.until("each backend and the service have charts", &format!("{charts} === 4")).unwrap();
}

fn a_crash_is_seen(page: &mut Browser, stage: &mut Stage) {
    stage.nginx[1].crash().unwrap();
    await_state(page, "web-02", "out");
    let top = first("[data-service=web] .backend");
    page.until("who is down stands first", &format!("{top}.dataset.backend === 'web-02'")).unwrap();
    // Not by colour alone.
    await_text(page, &row("web-02"), "down");
    await_text(page, "[data-service=web] .part-active", "2 of 3");
    // What a screen reader is told.
    await_text(page, "#polite", "web\\/web-02 is out");
    await_text(page, ".event[data-kind=health]", "web\\/web-02");
    its_alert_says_what_to_do(page);
    page.picture("down").unwrap();
    let host = &stage.lab.backends[1];
    stage.nginx[1].launch(host).unwrap();
    await_state(page, "web-02", "active");
    page.until("its alert is over", &format!("{} === null", first(DOWN))).unwrap();
    page.until("nothing is wrong", &format!("!{}.hidden", first("#alerts-none"))).unwrap();
    await_text(page, "#polite", "cleared: backend web\\/web-02 is down");
    await_text(page, ".event[data-kind=alert-cleared]", "web\\/web-02");
    page.picture("up-again").unwrap();
}

/// The alert of a server that is down, as the daemon raised it: how bad, since when, by which facts, and the page
/// that says what to do.
fn its_alert_says_what_to_do(page: &mut Browser) {
    await_text(page, DOWN, "backend web\\/web-02 is down: ");
    assert_eq!(page.evaluate(&format!("{}.dataset.severity", first(DOWN))).unwrap(), "warning");
    await_text(page, &format!("{DOWN} .alert-since"), "^since \\d\\d:\\d\\d:\\d\\d, for \\d+s$");
    await_text(page, &format!("{DOWN} .alert-evidence"), "^open \\d+, reason .*refused");
    await_text(page, "#polite", "warning alert: backend web\\/web-02 is down");
    await_text(page, ".event[data-kind=alert-raised]", "web\\/web-02");
    // What the link leads to is the page of this alert, which the daemon carries with it.
    let link = first(&format!("{DOWN} .alert-page a"));
    let led = format!("fetch({link}.href).then((answer) => answer.text())");
    let led = page.evaluate(&led).unwrap();
    assert!(led.as_str().unwrap().contains("# backend-down\n"), "{led}");
}

fn a_drain_is_seen(page: &mut Browser, balancer: &Balancer) {
    let drain = ["backend", "drain", "web/web-03", "--for", "1h", "--reason", "a test of its disk"];
    balancer.cli(&drain).unwrap().success().unwrap();
    await_state(page, "web-03", "drain");
    let left = format!("{}.textContent", first(&format!("{} .part-since", row("web-03"))));
    let then = page.evaluate(&left).unwrap();
    assert!(then.as_str().unwrap().starts_with("59m "), "{then}");
    page.until("its time runs", &format!("{left} !== {then}")).unwrap();
    await_text(page, &row("web-03"), "drain.*a test of its disk");
    balancer.cli(&["backend", "resume", "web-03"]).unwrap().success().unwrap();
    await_state(page, "web-03", "active");
}

fn an_edit_is_told(page: &mut Browser, balancer: &Balancer) {
    let text = balancer.configuration().unwrap();
    balancer.configure(&format!("{text}\n[verify]\nsurvive = 0\n")).unwrap();
    await_text(page, "[data-alert=config-not-applied]", "edited");
    let place = |selector| format!("{}.getBoundingClientRect()", first(selector));
    let above = format!("{}.bottom < {}.top", place(".alert"), place(".service"));
    page.until("it stands above all services", &above).unwrap();
    await_text(page, "#polite", "alert: .*edited");
}

/// The page says since when it has heard nothing, and goes on by itself.
fn the_daemon_dies_and_comes_back(page: &mut Browser, balancer: &mut Balancer) {
    balancer.kill().unwrap();
    await_text(page, "#old", "^No answer since \\d\\d:\\d\\d:\\d\\d");
    page.picture("lost").unwrap();
    balancer.run().unwrap();
    let live =
        format!("{}.hidden && document.documentElement.dataset.stream === 'live'", first("#old"));
    page.until("it is live again", &live).unwrap();
    await_state(page, "web-01", "active");
    let starts = "document.querySelectorAll('.event[data-kind=started]').length";
    page.until("both starts are in the timeline", &format!("{starts} === 2")).unwrap();
}

/// The page asks nobody but the listener that it came from.
fn assert_own(browser: &mut Browser) {
    let requests = browser.requests().unwrap();
    assert!(requests.len() > 10, "{requests:?}");
    let foreign: Vec<_> = requests.iter().filter(|request| !request.starts_with(URL)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn many_services_are_readable_by_everybody() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let many = (0..MANY).map(|number| {
        let name = format!("tenant-{number:03}");
        Service::web(&name, Family::V4).backends(&lab).at_port(1000 + number)
    });
    let settings = many.fold(Settings::new(&lab), Settings::with);
    let balancer = Balancer::start(&lab, &settings).unwrap();
    let mut browser = look(&lab);
    let page = &mut browser;
    await_count(page, ".service", MANY);
    // All are closed: what is not seen costs nothing.
    await_count(page, ".backend", 0);
    trouble_comes_first(page, &balancer);
    page.fill("#filter", "tenant-01 1019/tcp").unwrap();
    await_count(page, ".service", 1);
    page.click("[data-service=tenant-019] h3 button").unwrap();
    await_count(page, ".backend", 3);

    walk(page);
    for (theme, name) in [("dark", "desktop-dark"), ("light", "desktop-light")] {
        page.select("#theme", theme).unwrap();
        let chosen = format!("getComputedStyle(document.body).colorScheme === '{theme}'");
        page.until("the colours are chosen", &chosen).unwrap();
        assert_accessible(page, theme);
        page.picture(name).unwrap();
    }
    page.resize(360, 780).unwrap();
    assert_accessible(page, "phone");
    page.fill("#filter", "").unwrap();
    await_count(page, ".service", MANY);
    page.click("#open-all").unwrap();
    page.until("they open", "document.querySelectorAll('.backend').length > 3").unwrap();
    let width = page.evaluate("document.documentElement.scrollWidth").unwrap();
    assert_eq!(width, 360, "it scrolls to the side");
    page.picture("phone").unwrap();

    let fetched = "fetch('docs/playbook/backend-down.html').then((answer) => answer.text())";
    let playbook = page.evaluate(fetched).unwrap();
    assert!(playbook.as_str().unwrap().contains("## What to do now"), "{playbook}");
    assert_eq!(page.errors().unwrap(), Vec::<String>::new());
    assert_own(page);
}

fn await_count(page: &mut Browser, selector: &str, count: u16) {
    let script = format!("document.querySelectorAll('{selector}').length === {count}");
    page.until(&format!("there are {count} of {selector}"), &script).unwrap();
}

fn trouble_comes_first(page: &mut Browser, balancer: &Balancer) {
    let drain = ["backend", "drain", "tenant-037/web-02", "--for", "30m", "--reason", "new memory"];
    balancer.cli(&drain).unwrap().success().unwrap();
    let top = format!("{}.dataset.service === 'tenant-037'", first(".service"));
    page.until("trouble comes first", &top).unwrap();
    page.click("#troubled").unwrap();
    await_count(page, ".service", 1);
    page.click("#troubled").unwrap();
}

/// What can be reached by the keyboard, noted in the page; the focus goes to its beginning. Of radio buttons the
/// one that is chosen stands for all.
const CONTROLS: &str = r#"(() => {
    const all = document.querySelectorAll('a[href], button, input, select, [tabindex="0"]');
    const stands = (control) => control.type !== "radio" || control.checked;
    window.controls = [...all].filter((control) => stands(control) && control.checkVisibility());
    document.body.tabIndex = -1;
    document.body.focus();
    return window.controls.length;
})()"#;
/// Which of them has the focus, whether that is seen, and what it is.
const FOCUSED: &str = r#"(() => {
    const focused = document.activeElement;
    const drawn = focused.type === "radio" ? focused.nextElementSibling : focused;
    const seen = getComputedStyle(drawn).outlineStyle !== "none" && drawn.getBoundingClientRect().top >= 0;
    return [window.controls.indexOf(focused), seen, focused.outerHTML.slice(0, 120)];
})()"#;

/// Goes through the page by the keyboard alone: every control is reached, and seen to be.
fn walk(page: &mut Browser) {
    let controls = page.evaluate(CONTROLS).unwrap().as_u64().unwrap();
    assert!(controls > 8, "only {controls} controls");
    let mut reached = BTreeSet::new();
    for _ in 0..=controls {
        page.press("Tab").unwrap();
        let found = page.evaluate(FOCUSED).unwrap();
        let what = found[2].as_str().unwrap();
        let Some(index) = found[0].as_u64() else { continue };
        assert_eq!(found[1], true, "its focus cannot be seen: {what}");
        assert!(!reached.is_empty() || what.contains("skip"), "the first is {what}");
        reached.insert(index);
    }
    assert_eq!(reached.len() as u64, controls, "reached {reached:?} of {controls}");

    for pressed in ["true", "false"] {
        use_key(page, "#event-pause", "Space", "ariaPressed", pressed);
    }
    for expanded in ["false", "true"] {
        use_key(page, "[data-service=tenant-019] h3 button", "Enter", "ariaExpanded", expanded);
    }
}

/// Presses a key on a control, and waits for what that makes of it.
fn use_key(page: &mut Browser, control: &str, key: &str, property: &str, value: &str) {
    page.evaluate(&format!("{}.focus()", first(control))).unwrap();
    page.press(key).unwrap();
    let script = format!("{}.{property} === '{value}'", first(control));
    page.until(&format!("{key} makes {property} {value}"), &script).unwrap();
}

#[test]
fn its_modules_pass_their_own_tests() {
    let tests = ["format.test.js", "model.test.js"].map(|name| dashboard().join("test").join(name));
    let output = Command::new("node").arg("--test").args(tests).output().unwrap();
    let said = succeeded("node --test", output).unwrap();
    assert!(said.contains("# pass 1") && said.contains("# fail 0"), "{said}");
}
