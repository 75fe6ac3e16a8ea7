// The page: follows the daemon's stream and hands what it says to the page's parts.

import { Alerts } from "./alerts.js";
import { Views, memory, show, write } from "./dom.js";
import { History } from "./history.js";
import * as model from "./model.js";
import { ServiceCard } from "./service.js";
import { follow } from "./stream.js";
import { Timeline } from "./timeline.js";
import { choose } from "./theme.js";
import { Header } from "./header.js";

/** With more services than this only those that need attention are open at first. */
const OPEN_AT_FIRST = 8;

const find = (selector) => document.querySelector(selector);
const history = new History();
const header = new Header(document);
const alerts = new Alerts(find("#alerts"), header.say);
const timeline = new Timeline(find("#events"));
const filter = find("#filter");
const troubled = find("#troubled");

let status = null;
let rates = null;
let seconds = Number(memory.get("window") ?? 60);
let due = false;
/** Which services somebody opened or closed, by name. */
const opened = new Map();

const onScreen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) cardOf.get(target).visible = isIntersecting;
  },
  // A little ahead of what is scrolled to.
  { rootMargin: "300px" },
);
const cardOf = new WeakMap();
const cards = new Views(find("#service-list"), ({ service }) => {
  const few = status.services.length <= OPEN_AT_FIRST;
  const open = opened.get(service.name) ?? (few || service.level !== "fine");
  const toggled = (name, open) => opened.set(name, open);
  const card = new ServiceCard(service, { history, open, toggled });
  cardOf.set(card.element, card);
  onScreen.observe(card.element);
  return card;
});

/** Draws what is known, once for all that came since the last time, and not while nobody looks. */
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (status) render();
  });
}

function render() {
  const seen = model.services(status, rates, seconds);
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const needs = ({ level }) => level === "critical" || level === "warning";
  const chosen = seen.filter(
    (service) => model.matches(service, words) && (!troubled.checked || needs(service)),
  );
  header.update(status, model.totals(status, seen));
  alerts.update(status);
  header.announce(seen);
  cards.update(chosen.map((service) => ({ service, window: seconds, name: service.name })));
  timeline.offer(seen.map(({ name }) => name));
  const none = find("#services-none");
  show(none, chosen.length === 0);
  write(none, seen.length === 0 ? "No service is configured." : "No service matches.");
  write(find("#service-count"), chosen.length === seen.length ? "" : `${chosen.length} of ${seen.length}`);
}

for (const input of [filter, troubled]) input.addEventListener("input", draw);
for (const input of document.querySelectorAll("input[name=window]")) {
  input.checked = Number(input.value) === seconds;
  input.addEventListener("change", () => {
    seconds = Number(input.value);
    memory.set("window", seconds);
    draw();
  });
}
for (const [button, open] of [
  [find("#open-all"), true],
  [find("#close-all"), false],
]) {
  button.addEventListener("click", () => {
    for (const service of status?.services ?? []) opened.set(service.name, open);
    for (const card of cards.values()) card.open = open;
  });
}
choose(find("#theme"), () => {
  for (const card of cards.values()) card.redraw();
});

let lost = false;
follow("v1/stream", {
  status(document) {
    status = document;
    draw();
  },
  rates(document) {
    rates = document;
    history.add(document);
    draw();
  },
  event: (event) => timeline.add(event),
  missed: () => timeline.load(),
  state({ live, since }) {
    header.state(live, since);
    if (live && lost) {
      // What happened meanwhile did not come by the stream.
      timeline.load();
    } else if (!live) {
      history.interrupt();
      rates = null;
      draw();
    }
    lost = !live;
  },
});
timeline.load();
