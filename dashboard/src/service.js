// A service's card: how it stands in one line, and, opened, its backends.

import { BackendRow, COLUMNS } from "./backend.js";
import { ServiceChart, charts } from "./charts.js";
import { Views, draw, element, icon, set, show, write } from "./dom.js";
import * as format from "./format.js";

const SYMBOLS = { critical: "down", warning: "warning", neutral: "active", fine: "active" };
const WORDS = { critical: "critical", warning: "needs attention", neutral: "fine", fine: "fine" };
/** An index beyond this is shown as one to look at. */
const UNEVEN = 1.25;

/** The windows' names, by their seconds. */
export const WINDOWS = new Map([
  [10, "10 s"],
  [60, "1 min"],
  [600, "10 min"],
]);

/** A card. Only opened and on the screen it has rows and charts that follow. */
export class ServiceCard {
  #parts = {};
  #history;
  #rows;
  #indices;
  #chart;
  #service = null;
  #window = 60;
  #visible = false;
  #resized;
  #body;
  #open = false;
  #toggled;

  constructor(service, { history, open, toggled }) {
    this.#history = history;
    const part = (name, tag = "span") => (this.#parts[name] = element(tag, { class: `part-${name}` }));
    this.#parts.symbol = icon("active");
    const figure = (heading, name) => element("div", {}, element("dt", {}, heading), part(name, "dd"));
    // A heading with a button in it: screen readers find their way by headings.
    const id = `service-${service.name}`;
    this.#parts.button = element(
      "button",
      { type: "button", "aria-controls": id, click: () => this.#toggle(!this.#open) },
      icon("chevron"),
      this.#parts.symbol,
      part("name"),
    );
    const header = element(
      "header",
      { class: "service-header" },
      element("h3", {}, this.#parts.button),
      part("level"),
      part("address"),
      element(
        "dl",
        { class: "figures" },
        figure("Active", "active"),
        figure("New/s", "rate"),
        figure("Open", "open"),
        figure("Failed/s", "errors"),
        figure("Imbalance", "index"),
      ),
    );

    const head = COLUMNS.map(([name, heading]) =>
      element("th", { class: `cell ${name}`, scope: "col", role: "columnheader" }, heading),
    );
    // Its roles are said because small screens show rows as cards, which takes a table's own away.
    const table = element(
      "table",
      { class: "backends", role: "table", "aria-label": `Backends of ${service.name}` },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    );
    this.#rows = new Views(table, () => new BackendRow(), table.tHead);
    const chart = element("div", { class: "chart", "aria-hidden": "true" });
    this.#chart = new ServiceChart(chart);
    const figureOfChart = element(
      "div",
      { class: "chart-frame" },
      element("p", { class: "chart-title" }, "New connections/s by backend, while this page is open"),
      chart,
    );
    show(figureOfChart, charts);

    part("indices", "ul");
    set(this.#parts.indices, "aria-label", "Imbalance index: largest share over fair share");
    this.#indices = new Views(this.#parts.indices, () => new Index());
    this.#body = element(
      "div",
      { class: "service-body", id },
      part("details", "p"),
      this.#parts.indices,
      table,
      figureOfChart,
    );
    this.element = element(
      "article",
      { class: "service", "aria-label": `Service ${service.name}`, "data-service": service.name },
      header,
      this.#body,
    );
    this.#toggled = toggled;
    this.open = open;
    this.#resized = new ResizeObserver(() => this.#chart.resize());
    this.#resized.observe(chart);
  }

  /** Opens or closes it. */
  set open(open) {
    this.#open = open;
    set(this.#parts.button, "aria-expanded", open ? "true" : "false");
    show(this.#body, open);
    if (!open) this.#free();
    this.#show();
  }

  /** Says whether it is on the screen: only there its rows follow. */
  set visible(visible) {
    if (this.#visible === visible) return;
    this.#visible = visible;
    this.#show();
    if (!visible) this.#free();
  }

  /** Shows a service of the model. */
  update({ service, window }) {
    this.#service = service;
    this.#window = window;
    this.#summarise();
    this.#show();
  }

  /** Draws the charts again, in the colours of now. */
  redraw() {
    this.#chart.redraw();
    for (const row of this.#rows.values()) row.redraw();
  }

  /** Frees what it holds. */
  remove() {
    this.#resized.disconnect();
    this.#free();
  }

  #toggle(open) {
    this.open = open;
    this.#toggled(this.#service.name, open);
  }

  #free() {
    this.#chart.remove();
    for (const row of this.#rows.values()) row.remove();
  }

  #summarise() {
    const { name, address, level, active, all, rates, open } = this.#service;
    const parts = this.#parts;
    set(this.element, "data-level", level);
    draw(parts.symbol, SYMBOLS[level]);
    write(parts.name, name);
    write(parts.level, WORDS[level]);
    write(parts.address, address);
    write(parts.active, `${active} of ${all}`);
    set(parts.active, "data-some", active < all);
    write(parts.rate, format.rate(rates?.connections));
    write(parts.open, format.count(open));
    write(parts.errors, format.rate(rates?.errors));
    set(parts.errors, "data-some", rates?.errors > 0);
    const index = this.#service.indices.find(({ seconds }) => seconds === this.#window)?.index;
    write(parts.index, format.ratio(index));
    set(parts.index, "data-some", index > UNEVEN);
  }

  #show() {
    if (!this.#service || !this.#open || !this.#visible) return;
    const { name, details, indices, rows } = this.#service;
    write(this.#parts.details, details);
    this.#indices.update(indices, ({ seconds }) => seconds);
    const window = WINDOWS.get(this.#window);
    const scale = Math.max(...rows.map((row) => Math.max(row.share ?? 0, row.fair)), 0.01) * 1.05;
    this.#rows.update(
      rows.map((row) => ({ row, scale, window, name: `${row.kind === "removed"} ${row.name}` })),
    );
    const { times } = this.#history;
    for (const row of this.#rows.values()) {
      row.chart(times, this.#history.of(name, row.element.dataset.backend));
    }
    this.#chart.update(this.#history, name, rows.map((row) => row.name).sort());
  }
}

/** One window's imbalance index, and what it rests on. */
class Index {
  #value = element("b");
  #rest = element("span");
  element = element("li", {}, this.#value, this.#rest);

  update({ seconds, index, variation, connections }) {
    write(this.#value, format.ratio(index));
    set(this.#value, "data-some", index > UNEVEN);
    const spread = variation == null ? "" : `, variation ${variation.toFixed(3)}`;
    const window = WINDOWS.get(seconds) ?? format.span(seconds);
    write(this.#rest, ` in ${window}: ${format.several(connections, "connection")}${spread}`);
  }
}
