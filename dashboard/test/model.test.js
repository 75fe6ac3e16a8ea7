import assert from "node:assert/strict";
import { test } from "node:test";

import { History, KEPT } from "../src/history.js";
import * as model from "../src/model.js";

const backend = (name, other = {}) => ({
  name,
  address: "10.0.0.11:8080",
  weight: 1,
  tier: "primary",
  state: "active",
  health: "up",
  active: true,
  share: 0.5,
  open: 1,
  reason: "",
  ...other,
});
const service = (name, backends, other = {}) => ({
  name,
  address: "192.0.2.10:80",
  protocol: "tcp",
  forwarding: "nat",
  scheduler: "round-robin",
  probe: "",
  backends,
  ...other,
});
const read = (services, other = {}) => model.services({ services, ...other }, null, 60);
const DOWN = { state: "out", health: "down", active: false, share: 0 };
const DRAINED = {
  state: "drain",
  admin: "drain",
  active: false,
  share: 0,
  exception: { reason: "a restart", by: { uid: 0, user: "root" }, seconds: 5, seconds_left: 3595 },
};

test("rows that are down stand first, then those taken out, and removed ones last", () => {
  const rows = [
    backend("a"),
    backend("b", { state: "standby", active: false, tier: "backup" }),
    backend("c", DRAINED),
    backend("d", DOWN),
  ];
  const removed = [{ service: "web", name: "z", address: "10.0.0.9:80", open: 2 }];
  const [web] = read([service("web", rows)], { removed });
  assert.deepEqual(web.rows.map((row) => row.name), ["d", "c", "a", "b", "z"]);
  assert.deepEqual([web.active, web.all, web.open], [1, 4, 6]);
});

test("a discovered backend says where it comes from, and a declared one nothing", () => {
  const rows = [backend("a", { origin: "declared" }), backend("b", { origin: "dns:web.internal:80" })];
  const [web] = read([service("web", rows)]);
  assert.deepEqual(web.rows.map((row) => [row.name, row.origin]), [["a", ""], ["b", "dns:web.internal:80"]]);
});

test("a service with one of several down needs attention, with nobody left it is critical", () => {
  const seen = read([
    service("fine", [backend("a"), backend("b")]),
    service("one", [backend("a"), backend("b", DOWN)]),
    service("none", [backend("a", DOWN)]),
    service("empty", []),
  ]);
  const levels = seen.map(({ name, level }) => [name, level]);
  assert.deepEqual(levels, [
    ["none", "critical"],
    ["one", "warning"],
    ["fine", "fine"],
    ["empty", "fine"],
  ]);
});

test("an alert makes its service as bad as it is", () => {
  const alerts = [
    { service: "web", severity: "critical" },
    { service: "dns", severity: "info" },
  ];
  const seen = read([service("dns", [backend("a")]), service("web", [backend("a")])], { alerts });
  assert.deepEqual(seen.map(({ name, level }) => [name, level]), [["web", "critical"], ["dns", "fine"]]);
});

test("who is out says until when, and by whom", () => {
  const forever = { ...DRAINED, exception: { ...DRAINED.exception, seconds_left: undefined } };
  const [web] = read([service("web", [backend("a", DRAINED), backend("b", forever)])]);
  const [a, b] = web.rows.map((row) => row.exception);
  assert.equal(a.text, "59m 55s left");
  assert.equal(a.by, "root (uid 0)");
  assert.equal(b.text, "until somebody resumes it");
});

test("shares, failures and handshakes are those of the window that was chosen", () => {
  const window = (seconds, share) => ({
    seconds,
    connections: 1000,
    index: share / 0.5,
    backends: [{ name: "a", fair: 0.5, share, errors: 4, refused: 3, reset: 1, handshake_p50_us: 400 }],
  });
  const web = service("web", [backend("a")], { windows: [window(10, 0.7), window(60, 0.51)] });
  const row = (seconds) => model.services({ services: [web] }, null, seconds)[0].rows[0];
  assert.deepEqual([row(10).share, row(10).uneven], [0.7, true]);
  assert.deepEqual([row(60).share, row(60).uneven], [0.51, false]);
  assert.equal(row(60).errors.text, "3 refused, 1 reset");
  assert.equal(row(60).p50, 400);
  assert.equal(row(600).share, null);
});

test("chance is not called uneven", () => {
  assert.equal(model.isUneven(0.75, 0.5, 4), false);
  assert.equal(model.isUneven(0.75, 0.5, 400), true);
  assert.equal(model.isUneven(0.55, 0.5, 1e6), false);
  assert.equal(model.isUneven(0.1, 0, 100), false);
});

test("rates are summed over a service, and over all", () => {
  const rates = { services: { web: { a: { connections: 2, errors: 1 }, b: { connections: 3, errors: 0 } } } };
  const status = { daemon: {}, services: [service("web", [backend("a"), backend("b")])] };
  const seen = model.services(status, rates, 60);
  assert.equal(seen[0].rates.connections, 5);
  assert.equal(model.totals(status, seen).errors, 1);
  assert.equal(model.totals(status, model.services(status, null, 60)).connections, null);
});

test("a filter finds services by their backends, too, and wants every word", () => {
  const [web] = read([service("web", [backend("web-01")])]);
  assert.equal(model.matches(web, ["web-01", "192.0.2"]), true);
  assert.equal(model.matches(web, ["web-01", "dns"]), false);
});

test("the history has a gap where a backend was not heard of, and forgets what is old", () => {
  const history = new History();
  const at = (second) => new Date(1e12 + second * 1000).toISOString();
  history.add({ at: at(0), services: { web: { a: { connections: 1 } } } });
  history.add({ at: at(1), services: { web: { a: { connections: 2 }, b: { connections: 9 } } } });
  history.add({ at: at(2), services: { web: { b: { connections: 8 } } } });
  assert.deepEqual(history.of("web", "a"), [1, 2, null]);
  assert.deepEqual(history.of("web", "b"), [null, 9, 8]);
  assert.deepEqual(history.of("web", "c"), [null, null, null]);
  history.add({ at: at(2), services: {} });
  assert.equal(history.times.length, 3);
  for (let second = 3; second < KEPT + 10; second += 1) {
    history.add({ at: at(second), services: { web: { b: { connections: second } } } });
  }
  assert.equal(history.times.length, KEPT);
  assert.equal(history.of("web", "b").length, KEPT);
  assert.equal(history.of("web", "b").at(-1), KEPT + 9);
});

test("an interruption leaves a gap", () => {
  const history = new History();
  history.add({ at: new Date(1e12).toISOString(), services: { web: { a: { connections: 1 } } } });
  history.interrupt();
  history.add({ at: new Date(1e12 + 9000).toISOString(), services: { web: { a: { connections: 3 } } } });
  assert.deepEqual(history.of("web", "a"), [1, null, 3]);
});

test("a trouble that an alert tells is not told twice", () => {
  const edited = { file: "/etc/evenkeel/evenkeel.toml", what: "was edited" };
  const daemon = { config_edited: edited, troubles: ["no disk"] };
  const kinds = (alerts) => model.troubles({ daemon, alerts }).map(({ kind }) => kind);
  assert.deepEqual(kinds([]), ["daemon", "config-not-applied"]);
  assert.deepEqual(kinds([{ kind: "config-not-applied" }]), ["daemon"]);
});
