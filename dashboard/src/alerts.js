// Alerts, the worst first, and what else the daemon says is wrong.

import { Views, draw, element, icon, set, show, write } from "./dom.js";
import * as format from "./format.js";
import { troubles } from "./model.js";

const SYMBOLS = { critical: "down", warning: "warning", info: "info" };

/** The region on top. */
export class Alerts {
  #list;
  #quiet;
  #count;
  #known = null;
  #say;

  /** `say` tells a screen reader a sentence. */
  constructor(section, say) {
    this.#say = say;
    this.#count = section.querySelector("#alert-count");
    this.#quiet = section.querySelector("#alerts-none");
    this.#list = new Views(section.querySelector("#alert-list"), () => new AlertItem());
  }

  /** Shows what a status document says. */
  update(status) {
    const alerts = [...(status.alerts ?? []), ...troubles(status)];
    this.#list.update(alerts, (alert) => alert.id);
    show(this.#quiet, alerts.length === 0);
    write(this.#count, alerts.length === 0 ? "" : format.count(alerts.length));
    const firing = alerts.filter(({ severity }) => severity !== "info");
    document.title = firing.length > 0 ? `(${firing.length}) Evenkeel` : "Evenkeel";
    this.#announce(alerts);
  }

  /** Only what is new is said: the list itself changes every second. */
  #announce(alerts) {
    const now = new Map(alerts.map((alert) => [alert.id, alert.summary]));
    if (this.#known) {
      for (const { id, severity, summary } of alerts) {
        if (!this.#known.has(id)) this.#say(`${severity} alert: ${summary}`, severity === "critical");
      }
      for (const [id, summary] of this.#known) {
        if (!now.has(id)) this.#say(`cleared: ${summary}`);
      }
    }
    this.#known = now;
  }
}

class AlertItem {
  #parts = {};

  constructor() {
    const part = (name, tag = "span") => (this.#parts[name] = element(tag, { class: `alert-${name}` }));
    this.#parts.symbol = icon("warning");
    this.element = element(
      "li",
      { class: "alert" },
      element("span", { class: "alert-head" }, this.#parts.symbol, part("severity")),
      part("summary", "p"),
      element("p", { class: "alert-facts" }, part("kind"), part("since"), part("evidence")),
      part("page"),
    );
  }

  update({ id, kind, severity, summary, since, since_seconds: seconds, evidence, page }) {
    const parts = this.#parts;
    set(this.element, "data-alert", id);
    set(this.element, "data-severity", severity);
    draw(parts.symbol, SYMBOLS[severity] ?? "info");
    write(parts.severity, severity);
    write(parts.summary, summary);
    write(parts.kind, kind);
    write(parts.since, since ? `since ${format.clock(since)}, for ${format.span(seconds)}` : "");
    const told = Object.entries(evidence ?? {}).map(
      ([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`,
    );
    write(parts.evidence, told.join(", "));
    this.#link(page);
  }

  #link(page) {
    const parts = this.#parts;
    if (parts.page.dataset.page === (page ?? "")) return;
    parts.page.dataset.page = page ?? "";
    parts.page.replaceChildren();
    if (!page) return;
    // Of the configuration's playbook, or of the one that the daemon carries with it. Nothing else is a link.
    if (!/^(https?:\/\/|docs\/)/.test(page)) return;
    const link = element("a", { href: page, rel: "noreferrer", target: "_blank" }, "What to do");
    parts.page.append(link);
  }
}

function number(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? format.count(value) : String(Number(value.toPrecision(3)));
}
