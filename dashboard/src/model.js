// From the daemon's documents to what the page shows: which row stands where, in which words, and how bad it
// is. Pure, so that it is tested without a browser. Field names are those of `/v1/status` and `/v1/stream`.

import { span } from "./format.js";

/** Severities, the worst first. `neutral` is what somebody wants to be so. */
export const LEVELS = ["critical", "warning", "neutral", "fine"];
/** A share beyond this many times its fair one is pointed out, as far as chance does not explain it. */
const UNEVEN = 1.25;

/** What each state of a backend means: its severity, and where its row stands. */
const STATES = {
  out: ["critical", 0],
  ejected: ["critical", 0],
  "fail-open": ["critical", 0],
  drain: ["warning", 1],
  maintenance: ["warning", 1],
  warming: ["neutral", 2],
  active: ["fine", 3],
  standby: ["neutral", 4],
  removed: ["neutral", 5],
};

/** The worse of two severities. */
export function worse(one, other) {
  return LEVELS.indexOf(one) <= LEVELS.indexOf(other) ? one : other;
}

/** The services of a status document, with what `/v1/stream` says of rates, over a window of `seconds`. */
export function services(status, rates, seconds) {
  const removed = byService(status.removed);
  const alerts = byService(status.alerts);
  const seen = status.services.map((service) =>
    readService(service, {
      removed: removed.get(service.name) ?? [],
      alerts: alerts.get(service.name) ?? [],
      rates: rates?.services?.[service.name] ?? null,
      seconds,
    }),
  );
  const rank = (service) => LEVELS.indexOf(service.level);
  // Sorting is stable: what is alike keeps the configuration's order.
  return seen.sort((one, other) => Math.min(rank(one), 2) - Math.min(rank(other), 2));
}

function byService(list = []) {
  const groups = new Map();
  for (const item of list) {
    const group = groups.get(item.service);
    if (group) group.push(item);
    else groups.set(item.service, [item]);
  }
  return groups;
}

function readService(service, { removed, alerts, rates, seconds }) {
  const window = (service.windows ?? []).find((window) => window.seconds === seconds) ?? null;
  const measured = new Map((window?.backends ?? []).map((backend) => [backend.name, backend]));
  const rows = service.backends.map((backend) =>
    readBackend(backend, measured.get(backend.name), rates?.[backend.name], window),
  );
  rows.push(...removed.map((backend) => readRemoved(backend, rates?.[backend.name])));
  rows.sort((one, other) => one.rank - other.rank);
  const active = service.backends.filter((backend) => backend.active).length;
  const all = service.backends.length;
  const sum = (field) => rows.reduce((total, row) => total + (row.rates?.[field] ?? 0), 0);
  // One of several that is out is a warning of the service; nobody left is its outage.
  const down = rows.some((row) => row.level === "critical");
  const out = rows.some((row) => row.level === "warning");
  let level = all > 0 && active === 0 ? "critical" : down || out ? "warning" : "fine";
  for (const alert of alerts) {
    if (alert.severity !== "info") level = worse(level, alert.severity);
  }
  return {
    name: service.name,
    address: `${service.address}/${service.protocol}`,
    details: [service.scheduler, service.forwarding, service.probe && `probe ${service.probe}`]
      .filter(Boolean)
      .join(", "),
    active,
    all,
    level,
    alerts: alerts.length,
    indices: (service.windows ?? []).map(({ seconds, index, variation, connections, covers }) => {
      return { seconds, index, variation, connections, covers };
    }),
    connections: window?.connections ?? null,
    rates: rates && {
      connections: sum("connections"),
      in_bytes: sum("in_bytes"),
      out_bytes: sum("out_bytes"),
      errors: sum("errors"),
    },
    open: rows.reduce((total, row) => total + row.open, 0),
    rows,
  };
}

function readBackend(backend, measured, rates, window) {
  const word = (backend.state || (backend.active ? "active" : "out")).split(" ")[0];
  const [level, rank] = STATES[word] ?? (backend.active ? STATES.active : STATES.out);
  const fair = measured?.fair ?? backend.share;
  const share = window?.connections > 0 ? measured?.share ?? null : null;
  return {
    name: backend.name,
    address: backend.address,
    weight: backend.weight,
    backup: backend.tier === "backup",
    origin: backend.origin && backend.origin !== "declared" ? backend.origin : "",
    word: backend.state || word,
    kind: word,
    level,
    rank,
    since: backend.since_change_seconds ?? backend.health_seconds ?? null,
    health: backend.health,
    probe: backend.probe_milliseconds ?? null,
    reason: backend.reason ?? "",
    agent: backend.agent ?? "",
    exception: backend.exception ? readException(backend.admin, backend.exception) : null,
    fair,
    share,
    uneven: isUneven(share, fair, window?.connections ?? 0),
    errors: measured ? failures(measured) : null,
    rates: rates ?? null,
    open: backend.open ?? 0,
    most: backend.max_connections ?? null,
    p50: measured?.handshake_p50_us ?? null,
    p99: measured?.handshake_p99_us ?? null,
  };
}

function readRemoved(backend, rates) {
  const [level, rank] = STATES.removed;
  return {
    name: backend.name,
    address: backend.address,
    weight: null,
    backup: false,
    word: "removed",
    kind: "removed",
    level,
    rank,
    since: null,
    health: null,
    probe: null,
    reason: "no longer configured; its open connections finish",
    agent: "",
    exception: null,
    fair: 0,
    share: null,
    uneven: false,
    errors: null,
    rates: rates ?? null,
    open: backend.open,
    most: null,
    p50: null,
    p99: null,
  };
}

function readException(state, { reason, by, until, seconds, seconds_left: left }) {
  return {
    state,
    reason,
    by: peer(by),
    until: until ?? null,
    since: seconds,
    left: left ?? null,
    text: left == null ? "until somebody resumes it" : `${span(left)} left`,
  };
}

/** A user as the command line names them. */
export function peer(by) {
  if (!by) return "unknown";
  if (typeof by === "string") return by;
  const number = by.uid == null ? "" : `uid ${by.uid}`;
  if (by.user) return number ? `${by.user} (${number})` : by.user;
  return number || "unknown";
}

function failures({ errors, refused, unanswered, reset }) {
  const kinds = [
    [refused, "refused"],
    [unanswered, "unanswered"],
    [reset, "reset"],
  ];
  const told = kinds.filter(([number]) => number > 0).map(([number, kind]) => `${number} ${kind}`);
  return { total: errors ?? 0, text: told.join(", ") };
}

/** Whether a share is so far above its fair one that chance (three standard deviations) hardly made it so. */
export function isUneven(share, fair, connections) {
  if (share == null || !(fair > 0) || connections < 1) return false;
  const chance = 3 * Math.sqrt((fair * (1 - fair)) / connections);
  return share > fair * UNEVEN && share - fair > chance;
}

/** What the daemon says is not as it should be, and no alert tells, as alerts. */
export function troubles({ daemon, alerts = [] }) {
  const told = new Set(alerts.map(({ kind }) => kind));
  const found = [];
  const add = (kind, id, summary) => {
    if (!told.has(kind)) found.push({ id, kind, severity: "warning", summary });
  };
  for (const trouble of daemon.troubles ?? []) add("daemon", `daemon/${trouble}`, trouble);
  for (const { name, problem } of daemon.interfaces ?? []) {
    if (problem) add("interface-lost", `interface-lost/${name}`, `interface ${name}: ${problem}`);
  }
  if (daemon.config_edited) {
    const { file, what } = daemon.config_edited;
    add("config-not-applied", "config-not-applied", `${file} ${what}, and is not what is at work`);
  }
  const { confirmation } = daemon;
  if (confirmation) {
    const { what, who, seconds_left: left } = confirmation;
    const summary = `${what} (by ${peer(who)}) waits for its confirmation, and is taken back in ${span(left)}`;
    found.push({ id: "confirmation", kind: "configuration", severity: "info", summary });
  }
  return found;
}

/** Sums over all services. */
export function totals(status, seen) {
  const sum = (of) => seen.reduce((total, service) => total + (of(service) ?? 0), 0);
  const live = seen.some((service) => service.rates);
  const rate = (field) => (live ? sum((service) => service.rates?.[field]) : null);
  const { connection_entries: entries = 0, connection_capacity: capacity = 0 } = status.daemon;
  return {
    services: seen.length,
    troubled: seen.filter(({ level }) => level === "critical" || level === "warning").length,
    active: sum((service) => service.active),
    backends: sum((service) => service.all),
    connections: rate("connections"),
    in_bytes: rate("in_bytes"),
    out_bytes: rate("out_bytes"),
    errors: rate("errors"),
    open: sum((service) => service.open),
    // A connection has two entries; the table of each family has room for `capacity` connections.
    fill: capacity > 0 ? entries / 2 / capacity : null,
  };
}

/** Whether a service has a word in its name, its address, or one of its backends. */
export function matches(service, words) {
  if (words.length === 0) return true;
  const backends = service.rows.map((row) => `${row.name} ${row.address} ${row.word}`);
  const text = [service.name, service.address, service.details, ...backends].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}
