// The head of the page: who speaks, how fresh it is, the sums; and the sentences that a screen reader is told.

import { set, show, write } from "./dom.js";
import * as format from "./format.js";

/** The page's head. */
export class Header {
  #parts = {};
  #states = null;

  constructor(document) {
    const names = ["version", "uptime", "interfaces", "live", "old", "polite", "urgent", "table"];
    for (const name of names) this.#parts[name] = document.getElementById(name);
    for (const total of document.querySelectorAll("[data-total]")) {
      this.#parts[`total-${total.dataset.total}`] = total;
    }
  }

  /** Tells a screen reader a sentence; at once where it is urgent. */
  say = (sentence, urgent = false) => {
    const region = this.#parts[urgent ? "urgent" : "polite"];
    const line = document.createElement("p");
    line.textContent = sentence;
    region.append(line);
    while (region.children.length > 5) region.firstElementChild.remove();
  };

  /** Says whether the stream is alive, and else since when it is not. */
  state(live, since) {
    const said = live ? "live" : `no answer since ${format.clock(since)}`;
    write(this.#parts.live, said);
    set(document.documentElement, "data-stream", live ? "live" : "lost");
    const old = `No answer since ${format.clock(since)}: what is shown is from then. Trying again.`;
    write(this.#parts.old, live ? "" : old);
    show(this.#parts.old, !live);
  }

  /** Shows the daemon and the sums. */
  update({ daemon }, totals) {
    write(this.#parts.version, daemon.version);
    write(this.#parts.uptime, format.span(daemon.uptime_seconds));
    const interfaces = daemon.interfaces.map(({ name, mode }) => `${name} (${mode})`);
    write(this.#parts.interfaces, interfaces.join(", "));
    this.#total("services", format.count(totals.services));
    const needs = totals.troubled > 0 ? `${totals.troubled} with trouble` : "all fine";
    this.#total("troubled", totals.services > 0 ? needs : "", totals.troubled > 0);
    this.#total("backends", `${totals.active} of ${totals.backends}`, totals.active < totals.backends);
    this.#total("connections", format.rate(totals.connections));
    this.#total("open", format.count(totals.open));
    this.#total("in", format.labelled(format.bytes(totals.in_bytes), "/s"));
    this.#total("out", format.labelled(format.bytes(totals.out_bytes), "/s"));
    this.#total("errors", format.rate(totals.errors), totals.errors > 0);
    this.#total("fill", format.share(totals.fill), totals.fill > 0.8);
  }

  /** Tells which backends changed their state since the last time. */
  announce(services) {
    const now = new Map();
    for (const service of services) {
      for (const row of service.rows) now.set(`${service.name}/${row.name}`, row.kind);
    }
    if (this.#states) {
      const changed = [...now].filter(([key, kind]) => (this.#states.get(key) ?? kind) !== kind);
      if (changed.length > 5) this.say(`${changed.length} backends changed their state`);
      else for (const [key, kind] of changed) this.say(`${key} is ${kind}`);
    }
    this.#states = now;
  }

  #total(name, text, some = false) {
    write(this.#parts[`total-${name}`], text);
    set(this.#parts[`total-${name}`], "data-some", some);
  }
}
