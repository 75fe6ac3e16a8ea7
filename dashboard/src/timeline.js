// What happened, the newest first: by the stream, after what `/v1/events` has of the time before.

import { element, icon, set, show, write } from "./dom.js";
import * as format from "./format.js";
import { peer } from "./model.js";

/** How many are kept, and asked for at first. */
const KEPT = 200;
/** The symbol of each kind. */
const SYMBOLS = {
  active: "pulse",
  admin: "drain",
  "alert-cleared": "active",
  "alert-raised": "warning",
  "all-down": "down",
  announce: "link",
  configuration: "edit",
  drift: "warning",
  ejected: "down",
  health: "pulse",
  interface: "link",
  membership: "edit",
  "next-hop": "link",
  trouble: "warning",
  withdraw: "link",
};

/** The section with the timeline. */
export class Timeline {
  #list;
  #none;
  #filter;
  #pause;
  #held;
  #events = [];
  #paused = false;
  #service = "";
  #services = "";

  constructor(section) {
    this.#list = section.querySelector("#event-list");
    this.#none = section.querySelector("#events-none");
    this.#filter = section.querySelector("#event-service");
    this.#pause = section.querySelector("#event-pause");
    this.#held = section.querySelector("#event-held");
    this.#filter.addEventListener("change", () => {
      this.#service = this.#filter.value;
      this.#render();
    });
    this.#pause.addEventListener("click", () => this.#setPaused(!this.#paused));
    // A list that somebody reads stands still.
    for (const kind of ["focusin", "focusout", "pointerenter", "pointerleave"]) {
      this.#list.addEventListener(kind, () => this.#follow());
    }
  }

  /** Asks for the last events: those before the page was opened, or that the stream has missed. */
  async load() {
    try {
      const answer = await fetch(`v1/events?limit=${KEPT}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`the daemon says ${answer.status}`);
      const { events } = await answer.json();
      events.forEach((event) => this.#take(event));
    } catch (error) {
      console.warn("the events before now cannot be had:", error);
    }
    this.#follow();
  }

  /** Takes an event of the stream. */
  add(event) {
    this.#take(event);
    this.#follow();
  }

  /** Offers these services to choose from. */
  offer(names) {
    const sorted = [...names].sort();
    const key = sorted.join("\n");
    if (key === this.#services) return;
    this.#services = key;
    const all = this.#filter.options[0];
    const options = sorted.map((name) => element("option", { value: name }, name));
    this.#filter.replaceChildren(all, ...options);
    this.#filter.value = sorted.includes(this.#service) ? this.#service : "";
    this.#service = this.#filter.value;
  }

  #take(event) {
    if (this.#events.some(({ id }) => id === event.id)) return;
    this.#events.push(event);
    this.#events.sort((one, other) => other.id - one.id);
    this.#events.length = Math.min(this.#events.length, KEPT);
  }

  #setPaused(paused) {
    this.#paused = paused;
    set(this.#pause, "aria-pressed", paused ? "true" : "false");
    this.#follow();
  }

  #follow() {
    const read = this.#list.matches(":hover") || this.#list.contains(document.activeElement);
    if (!this.#paused && !read) {
      this.#render();
      return;
    }
    const shown = Number(this.#list.firstElementChild?.dataset.event ?? 0);
    const held = this.#chosen().filter(({ id }) => id > shown).length;
    write(this.#held, held > 0 ? `${format.several(held, "newer event")} held back` : "");
  }

  #chosen() {
    return this.#service ? this.#events.filter(({ service }) => service === this.#service) : this.#events;
  }

  #render() {
    write(this.#held, "");
    const chosen = this.#chosen();
    const there = new Map([...this.#list.children].map((item) => [item.dataset.event, item]));
    // An event never changes: what stands there stays, and what is new is put where it belongs.
    const wanted = chosen.map((event) => there.get(String(event.id)) ?? item(event));
    const keep = new Set(wanted);
    for (const element of there.values()) if (!keep.has(element)) element.remove();
    wanted.forEach((element, index) => {
      const place = this.#list.children[index];
      if (place !== element) this.#list.insertBefore(element, place ?? null);
    });
    show(this.#none, chosen.length === 0);
  }
}

function item(event) {
  const { id, at, kind, level, service, backend, who, why, message } = event;
  const where = [service, backend].filter(Boolean).join("/");
  const made = element(
    "li",
    { class: "event", "data-event": id, "data-kind": kind, "data-level": level },
    element("time", { datetime: at, title: at }, format.clock(at)),
    icon(SYMBOLS[kind] ?? "dot"),
    element("span", { class: "event-kind" }, kind.replaceAll("-", " ")),
    element("span", { class: "event-where" }, where),
    element("span", { class: "event-message" }, message),
  );
  // Most messages say the reason themselves.
  const because = [who && `by ${peer(who)}`, !message.includes(why) && why].filter(Boolean).join(": ");
  if (because) made.append(element("span", { class: "event-why" }, because));
  return made;
}
