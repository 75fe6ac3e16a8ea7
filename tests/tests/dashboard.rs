//! The dashboard in a real browser, over a real balancer: what happens is seen without loading the page again,
//! by everybody.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::process::Command;

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
/// More than are opened at first.
const MANY: u16 = 40;

/// The page of a lab's edge, after it has heard of the balancer.
fn look(lab: &Lab) -> Browser {
    let mut browser = Browser::start(&lab.edge.namespace).unwrap();
    browser.prefer("dark").unwrap();
    let (status, headers) = browser.open(URL).unwrap();
    assert_eq!(status, 200);
    let policy = headers["content-security-policy"].as_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    browser
        .until("the stream is live", "document.documentElement.dataset.stream === 'live'")
        .unwrap();
    browser
}

/// The row of a backend of the service `web`.
fn row(backend: &str) -> String {
    format!("[data-service=web] .backend[data-backend={backend}]")
}

fn await_state(browser: &mut Browser, backend: &str, state: &str) {
    let script = format!("document.querySelector('{}')?.dataset.state === '{state}'", row(backend));
    browser.until(&format!("the page shows {backend} as {state}"), &script).unwrap();
}

/// A number of the page that is above zero by and by.
fn await_number(browser: &mut Browser, selector: &str) {
    let script = format!("parseFloat(document.querySelector('{selector}')?.textContent) > 0");
    browser.until(&format!("{selector} is above zero"), &script).unwrap();
}

fn assert_accessible(browser: &mut Browser, what: &str) {
    let found = browser.accessibility().unwrap();
    assert!(found.passed > 20, "{what}: only {} rules applied", found.passed);
    assert!(found.serious.is_empty(), "{what}: {:#?}", found.serious);
}

#[test]
fn what_happens_is_seen_without_loading_the_page_again() {
    let settings = |lab: &Lab| {
        Settings::new(lab).with(Service::web("web", Family::V4).backends(lab).probed(HTTP_PROBE))
    };
    let mut stage = Stage::new(Wiring::Switched, 3, settings).unwrap();
    let mut browser = look(&stage.lab);
    let page = &mut browser;
    page.evaluate("window.neverLoadedAgain = true").unwrap();
    for backend in ["web-01", "web-02", "web-03"] {
        await_state(page, backend, "active");
    }
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    for part in
        ["rate .part-connections", "traffic .part-in", "share .part-share", "handshake .part-p50"]
    {
        let selector = format!("{} .cell.{part}", row("web-01"));
        let script = format!("/[1-9]/.test(document.querySelector('{selector}').textContent)");
        page.until(&format!("{part} of a backend with load is above zero"), &script).unwrap();
    }
    await_number(page, "[data-total=connections]");
    page.until("a share has its bar, and its mark", &format!(
        "(([bar, mark]) => bar.width > 20 && mark.left > bar.left + 20)(
            ['.bar-fill', '.bar-mark'].map((part) => document.querySelector('{} ' + part).getBoundingClientRect()))",
        row("web-01")
    ))
    .unwrap();
    page.until(
        "there are charts",
        "document.querySelectorAll('[data-service=web] canvas').length > 3",
    )
    .unwrap();

    stage.nginx[1].crash().unwrap();
    await_state(page, "web-02", "out");
    page.until(
        "who is down stands first",
        "document.querySelector('[data-service=web] .backend').dataset.backend === 'web-02'",
    )
    .unwrap();
    let text = page.text(&row("web-02")).unwrap();
    assert!(text.contains("down"), "not by colour alone: {text}");
    let card = page.text("[data-service=web] .service-header").unwrap();
    assert!(card.contains("2 of 3"), "{card}");
    page.until(
        "a screen reader is told",
        "document.querySelector('#polite').textContent.includes('web/web-02 is out')",
    )
    .unwrap();
    page.until("it is in the timeline", "[...document.querySelectorAll('.event')].some((event) => event.dataset.kind === 'health' && event.textContent.includes('web/web-02'))").unwrap();
    page.picture("down").unwrap();
    let host = &stage.lab.backends[1];
    stage.nginx[1].launch(host).unwrap();
    await_state(page, "web-02", "active");

    let drain = ["backend", "drain", "web/web-03", "--for", "1h", "--reason", "a test of its disk"];
    stage.balancer.cli(&drain).unwrap().success().unwrap();
    await_state(page, "web-03", "drain");
    let left = format!("document.querySelector('{} .part-since').textContent", row("web-03"));
    let first = page.evaluate(&left).unwrap();
    assert!(first.as_str().unwrap().starts_with("59m "), "{first}");
    page.until("its time runs", &format!("{left} !== {first}")).unwrap();
    let text = page.text(&row("web-03")).unwrap();
    assert!(text.contains("drain") && text.contains("a test of its disk"), "{text}");
    stage.balancer.cli(&["backend", "resume", "web-03"]).unwrap().success().unwrap();
    await_state(page, "web-03", "active");

    let edited =
        format!("{}# by hand\n[verify]\nsurvive = 0\n", stage.balancer.configuration().unwrap());
    stage.balancer.configure(&edited).unwrap();
    page.until("an alert is shown", "!!document.querySelector('[data-alert=config-not-applied]')")
        .unwrap();
    page.until("it stands above all services", "document.querySelector('.alert').getBoundingClientRect().bottom < document.querySelector('.service').getBoundingClientRect().top").unwrap();
    page.until(
        "a screen reader is told",
        "/alert: .*edited/.test(document.querySelector('#polite').textContent)",
    )
    .unwrap();
    assert_eq!(page.errors().unwrap(), Vec::<String>::new());
    assert_own(page);

    // The daemon dies: the page says since when it has heard nothing, and comes back by itself.
    load.stop().unwrap();
    stage.balancer.kill().unwrap();
    page.until(
        "it says that nobody answers",
        "/^No answer since \\d\\d:\\d\\d:\\d\\d/.test(document.querySelector('#old').innerText)",
    )
    .unwrap();
    page.picture("lost").unwrap();
    stage.balancer.run().unwrap();
    page.until("it is live again", "document.documentElement.dataset.stream === 'live' && document.querySelector('#old').hidden").unwrap();
    await_state(page, "web-01", "active");
    page.until(
        "the new start is in the timeline",
        "document.querySelectorAll('.event[data-kind=started]').length > 1",
    )
    .unwrap();
    assert_eq!(page.evaluate("window.neverLoadedAgain").unwrap(), true);
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
    let cards = "document.querySelectorAll('.service').length";
    page.until("every service has its card", &format!("{cards} === {MANY}")).unwrap();
    assert_eq!(
        page.evaluate("document.querySelectorAll('.backend').length").unwrap(),
        0,
        "all are closed"
    );

    // One that needs attention comes first, and is the only one with trouble.
    let drain = ["backend", "drain", "tenant-037/web-02", "--for", "30m", "--reason", "new memory"];
    balancer.cli(&drain).unwrap().success().unwrap();
    page.until(
        "trouble comes first",
        "document.querySelector('.service').dataset.service === 'tenant-037'",
    )
    .unwrap();
    page.click("#troubled").unwrap();
    page.until("only trouble is shown", &format!("{cards} === 1")).unwrap();
    page.click("#troubled").unwrap();
    page.fill("#filter", "tenant-01 1019/tcp").unwrap();
    page.until("the filter leaves one", &format!("{cards} === 1")).unwrap();
    page.click("[data-service=tenant-019] h3 button").unwrap();
    page.until("its backends are shown", "document.querySelectorAll('.backend').length === 3")
        .unwrap();

    walk(page);
    for (theme, name) in [("dark", "desktop-dark"), ("light", "desktop-light")] {
        page.select("#theme", theme).unwrap();
        page.until(
            "the colours are chosen",
            &format!("getComputedStyle(document.body).colorScheme === '{theme}'"),
        )
        .unwrap();
        assert_accessible(page, theme);
        page.picture(name).unwrap();
    }
    page.resize(360, 780).unwrap();
    assert_accessible(page, "phone");
    page.fill("#filter", "").unwrap();
    page.until("all cards are back", &format!("{cards} === {MANY}")).unwrap();
    page.click("#open-all").unwrap();
    page.until("they are open", "document.querySelectorAll('.backend').length > 3").unwrap();
    let width = page.evaluate("document.documentElement.scrollWidth").unwrap();
    assert_eq!(width, 360, "it scrolls to the side");
    page.picture("phone").unwrap();
    assert_eq!(page.errors().unwrap(), Vec::<String>::new());
    assert_own(page);
}

/// Goes through the page by the keyboard alone: every control is reached, and seen to be.
fn walk(browser: &mut Browser) {
    let wanted = browser
        .evaluate(
            "(() => {
                const controls = [...document.querySelectorAll('a[href], button, input, select, [tabindex=\"0\"]')];
                window.wanted = controls.filter((control) => (control.type !== 'radio' || control.checked)
                    && control.checkVisibility());
                document.activeElement.blur();
                window.scrollTo(0, 0);
                document.body.tabIndex = -1;
                document.body.focus();
                return window.wanted.length;
            })()",
        )
        .unwrap();
    let wanted = wanted.as_u64().unwrap();
    assert!(wanted > 8, "only {wanted} controls");
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..=wanted {
        browser.press("Tab").unwrap();
        let found = browser
            .evaluate(
                "(() => {
                    const focused = document.activeElement;
                    const drawn = focused.type === 'radio' ? focused.nextElementSibling : focused;
                    const place = drawn.getBoundingClientRect();
                    const seen = getComputedStyle(drawn).outlineStyle !== 'none' && place.top >= 0;
                    return [window.wanted.indexOf(focused), seen, focused.outerHTML.slice(0, 120)];
                })()",
            )
            .unwrap();
        if let Some(index) = found[0].as_u64() {
            assert_eq!(found[1], true, "its focus cannot be seen: {}", found[2]);
            if reached.is_empty() {
                assert!(found[2].as_str().unwrap().contains("skip"), "{}", found[2]);
            }
            reached.insert(index);
        }
    }
    assert_eq!(reached.len() as u64, wanted, "reached {reached:?} of {wanted}");

    let focus = |selector: &str| format!("document.querySelector('{selector}').focus()");
    browser.evaluate(&focus("#event-pause")).unwrap();
    browser.press("Space").unwrap();
    browser
        .until(
            "the timeline pauses",
            "document.querySelector('#event-pause').ariaPressed === 'true'",
        )
        .unwrap();
    browser.press("Space").unwrap();
    let button = "[data-service=tenant-019] h3 button";
    browser.evaluate(&focus(button)).unwrap();
    for expanded in ["false", "true"] {
        browser.press("Enter").unwrap();
        browser
            .until(
                "the card follows the key",
                &format!("document.querySelector('{button}').ariaExpanded === '{expanded}'"),
            )
            .unwrap();
    }
}

#[test]
fn its_modules_pass_their_own_tests() {
    let tests = ["format.test.js", "model.test.js"].map(|name| dashboard().join("test").join(name));
    let output = Command::new("node").arg("--test").args(tests).output().unwrap();
    let said = succeeded("node --test", output).unwrap();
    assert!(said.contains("# pass 1") && said.contains("# fail 0"), "{said}");
}
