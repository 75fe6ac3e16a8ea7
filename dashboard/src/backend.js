// A backend's row: its share against the fair one, what it does, and why it does not.

import { Spark } from "./charts.js";
import { draw, element, icon, set, show, write } from "./dom.js";
import * as format from "./format.js";

/** The columns, in order: class, heading, and the heading where it stands in each cell. */
export const COLUMNS = [
  ["name", "Backend", "Backend"],
  ["state", "State", "State"],
  ["share", "Share of new connections", "Share"],
  ["rate", "New connections/s", "New/s"],
  ["traffic", "Traffic/s", "Traffic/s"],
  ["errors", "Failed", "Failed"],
  ["open", "Open", "Open"],
  ["handshake", "Handshake", "Handshake"],
];

/** The symbol of each state; states that look alike have different ones. */
const SYMBOLS = {
  active: "active",
  warming: "warming",
  standby: "standby",
  drain: "drain",
  maintenance: "maintenance",
  removed: "removed",
  "fail-open": "warning",
};

/** One row of a service's table. */
export class BackendRow {
  #cells = {};
  #spark;

  constructor() {
    const cell = (name, heading, ...parts) => {
      const role = name === "name" ? "rowheader" : "cell";
      const tag = name === "name" ? "th" : "td";
      const scope = name === "name" ? { scope: "row" } : {};
      return element(tag, { class: `cell ${name}`, role, "data-heading": heading, ...scope }, ...parts);
    };
    const part = (name, tag = "span") => (this.#cells[name] = element(tag, { class: `part-${name}` }));

    this.#cells.symbol = icon("active");
    const pill = element("span", { class: "pill" }, this.#cells.symbol, part("word"));
    this.#cells.pill = pill;
    this.#cells.fill = element("span", { class: "bar-fill" });
    this.#cells.mark = element("span", { class: "bar-mark" });
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, this.#cells.fill, this.#cells.mark);
    const spark = element("span", { class: "spark", "aria-hidden": "true" });
    this.#spark = new Spark(spark);

    const parts = {
      name: [
        element("span", { class: "title" }, part("title"), part("tags")),
        part("address"),
      ],
      state: [element("span", { class: "first" }, pill), part("since")],
      share: [element("span", { class: "first" }, part("share"), part("fair")), bar],
      rate: [element("span", { class: "first" }, part("connections")), spark],
      traffic: [part("in"), part("out")],
      errors: [part("failed"), part("failures")],
      open: [part("open"), part("most")],
      handshake: [part("p50"), part("p99")],
    };
    const cells = COLUMNS.map(([name, , heading]) => cell(name, heading, ...parts[name]));
    const row = element("tr", { role: "row" }, ...cells);
    // What there is to say has a line of its own, as wide as the row.
    const note = element("td", { class: "cell", role: "cell", colspan: COLUMNS.length }, part("note"));
    this.#cells.line = element("tr", { class: "note", role: "row" }, note);
    this.element = element("tbody", { class: "backend", role: "rowgroup" }, row, this.#cells.line);
  }

  /** Shows a row of the model; `scale` is the share that fills the bar. */
  update({ row, scale, window }) {
    const cells = this.#cells;
    set(this.element, "data-level", row.level);
    set(this.element, "data-state", row.kind);
    set(this.element, "data-backend", row.name);

    draw(cells.symbol, SYMBOLS[row.kind] ?? "down");
    write(cells.word, row.word === "out" && row.health === "down" ? "down" : row.word);
    set(cells.pill, "data-level", row.level);
    write(cells.since, sinceText(row));

    write(cells.title, row.name);
    write(cells.tags, tagsOf(row));
    write(cells.address, row.address);
    const note = noteOf(row);
    write(cells.note, note);
    show(cells.line, note !== "");

    this.#share(row, scale, window);
    write(cells.connections, format.rate(row.rates?.connections));
    write(cells.in, format.labelled(format.bytes(row.rates?.in_bytes), " in"));
    write(cells.out, format.labelled(format.bytes(row.rates?.out_bytes), " out"));
    write(cells.failed, format.labelled(format.rate(row.rates?.errors), "/s"));
    write(cells.failures, row.errors?.text || (row.errors ? `none in ${window}` : ""));
    set(cells.failed, "data-some", row.rates?.errors > 0);
    set(cells.failures, "data-some", row.errors?.total > 0);
    write(cells.open, format.count(row.open));
    write(cells.most, row.most == null ? "no limit" : `of ${format.count(row.most)}`);
    write(cells.p50, `p50 ${format.micros(row.p50)}`);
    write(cells.p99, `p99 ${format.micros(row.p99)}`);
  }

  /** Shows the last minutes. */
  chart(times, values) {
    this.#spark.update(times, values);
  }

  /** Draws the chart again, in the colours of now. */
  redraw() {
    this.#spark.redraw();
  }

  /** Frees the chart. */
  remove() {
    this.#spark.remove();
  }

  #share(row, scale, window) {
    const cells = this.#cells;
    const percent = (share) => `${Math.min(100, ((share ?? 0) / scale) * 100).toFixed(1)}%`;
    // Not by a `style` attribute, which the page's policy forbids.
    cells.fill.style.width = percent(row.share);
    cells.mark.style.left = percent(row.fair);
    show(cells.mark, row.fair > 0);
    set(cells.fill, "data-uneven", row.uneven);
    write(cells.share, row.share == null ? format.NOTHING : format.share(row.share));
    const fair = `fair ${format.share(row.fair)}`;
    const times = row.share == null || !(row.fair > 0) ? "" : `, ${format.ratio(row.share / row.fair)}×`;
    if (row.share == null) write(cells.fair, `${fair}, none in ${window}`);
    else write(cells.fair, row.uneven ? `${fair}${times} too much` : `${fair}${times}`);
  }
}

function sinceText(row) {
  if (row.exception) return row.exception.text;
  return row.since == null ? "" : `for ${format.span(row.since)}`;
}

function tagsOf(row) {
  const tags = [];
  if (row.weight != null && row.weight !== 1) tags.push(`weight ${row.weight}`);
  if (row.backup) tags.push("backup");
  if (row.origin) tags.push(row.origin);
  return tags.join(", ");
}

function noteOf(row) {
  const said = [];
  if (row.exception) {
    const { state, reason, by, since } = row.exception;
    said.push(`${state}: ${reason} (by ${by}, ${format.span(since)} ago)`);
    if (row.health === "down") said.push("probes fail");
  }
  if (row.reason && !(row.exception && row.reason.includes(row.exception.reason))) said.push(row.reason);
  if (row.agent) said.push(`agent: ${row.agent}`);
  return said.join("; ");
}
