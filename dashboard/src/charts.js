// Charts by uPlot: a spark in each backend's row, and a service's last minutes by backend. What they show is
// also there as numbers: to a screen reader they are nothing, and without uPlot the page goes on.

import { rate } from "./format.js";

const uPlot = globalThis.uPlot ?? null;

/** Whether there are charts at all. */
export const charts = uPlot !== null;

/** Lines that a service's chart tells apart; the other backends are one more line, their sum. */
const LINES = 6;
const SPARK = { width: 96, height: 26 };
const HEIGHT = 150;

// The axes and lines have the page's colours, which CSS knows: light, dark, or what changed meanwhile.
const colour = (element, name) => () => getComputedStyle(element).getPropertyValue(name).trim();

/** The last minutes of one backend's new connections. */
export class Spark {
  #plot = null;
  #host;

  constructor(host) {
    this.#host = host;
  }

  /** Shows `values` over `times`. */
  update(times, values) {
    if (!charts) return;
    if (!this.#plot) {
      this.#plot = new uPlot(
        {
          ...SPARK,
          padding: [2, 0, 2, 0],
          pxAlign: 0,
          legend: { show: false },
          cursor: { show: false },
          axes: [{ show: false }, { show: false }],
          scales: { x: { range: (_, from, to) => [from, Math.max(to, from + 60)] }, y: { range } },
          series: [
            {},
            {
              stroke: colour(this.#host, "--chart-1"),
              fill: colour(this.#host, "--chart-fill"),
              width: 1.25,
              points: { show: false },
            },
          ],
        },
        [times, values],
        this.#host,
      );
      return;
    }
    this.#plot.setData([times, values]);
  }

  /** Draws it again, in the colours of now. */
  redraw() {
    this.#plot?.redraw(false);
  }

  /** Frees it; a later update makes it anew. */
  remove() {
    this.#plot?.destroy();
    this.#plot = null;
  }
}

/** The last minutes of a service's new connections, a line each backend. */
export class ServiceChart {
  #plot = null;
  #host;
  #names = "";

  constructor(host) {
    this.#host = host;
  }

  /** Shows the backends of these names, as a [`History`] has them. */
  update(history, service, names) {
    if (!charts) return;
    const shown = names.length > LINES + 1 ? names.slice(0, LINES) : names;
    const rest = names.slice(shown.length);
    const series = shown.map((name) => history.of(service, name));
    if (rest.length > 0) series.push(summed(rest.map((name) => history.of(service, name))));
    const data = [history.times, ...series];
    const titles = rest.length > 0 ? [...shown, `${rest.length} others`] : shown;
    const key = titles.join("\n");
    if (key !== this.#names) this.remove();
    if (!this.#plot) {
      this.#names = key;
      this.#plot = new uPlot(this.#options(titles), data, this.#host);
      return;
    }
    this.#plot.setData(data);
  }

  /** Fits it into its place. */
  resize() {
    const width = this.#host.clientWidth;
    if (this.#plot && width > 0 && width !== this.#plot.width) {
      this.#plot.setSize({ width, height: HEIGHT });
    }
  }

  /** Draws it again, in the colours of now. */
  redraw() {
    this.#plot?.redraw(false);
  }

  /** Frees it; a later update makes it anew. */
  remove() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#names = "";
  }

  #options(titles) {
    const ink = colour(this.#host, "--ink-soft");
    const grid = { stroke: colour(this.#host, "--line-soft"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const line = (label, index) => ({
      label,
      stroke: colour(this.#host, `--chart-${(index % (LINES + 1)) + 1}`),
      width: 1.5,
      // Colour alone tells nothing to some: each line has its own dashes, too.
      dash: [[], [6, 3], [2, 2], [8, 3, 2, 3], [12, 3], [4, 4], [1, 3]][index % (LINES + 1)],
      points: { show: false },
      value: (_, value) => rate(value),
    });
    return {
      width: Math.max(this.#host.clientWidth, 200),
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { range: (_, from, to) => [from, Math.max(to, from + 60)] }, y: { range } },
      axes: [
        { stroke: ink, grid, ticks: grid, font, size: 28, space: 80, values: clockTicks },
        { stroke: ink, grid, ticks: { show: false }, font, size: 48, values: (_, ticks) => ticks.map(tick) },
      ],
      series: [{ value: (_, time) => (time == null ? "–" : clock(time)) }, ...titles.map(line)],
    };
  }
}

/** From zero, so that a height is a size; and never empty. */
function range(_, from, to) {
  return [0, Math.max(to * 1.1, 1)];
}

function tick(value) {
  return value >= 1000 ? `${value / 1000}k` : String(value);
}

function clock(seconds) {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}

function clockTicks(_, ticks) {
  return ticks.map((seconds) => (seconds % 60 === 0 ? clock(seconds).slice(0, 5) : clock(seconds)));
}

function summed(lists) {
  return lists[0].map((_, index) => {
    const present = lists.map((values) => values[index]).filter((value) => value !== null);
    return present.length > 0 ? present.reduce((sum, value) => sum + value, 0) : null;
  });
}
