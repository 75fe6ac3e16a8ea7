// The last minutes of each backend's rate of new connections, as the charts draw them. Pure.

/** Samples kept, one a second. */
export const KEPT = 300;

/** Rates by service and backend over one axis of times. */
export class History {
  /** Seconds since the epoch, rising. */
  times = [];
  #series = new Map();

  /** Adds a `rates` document; a backend that is not in it has a gap there. */
  add({ at, services }) {
    const time = Date.parse(at) / 1000;
    // Two samples of one moment are no line.
    if (!(time > (this.times.at(-1) ?? 0))) return;
    const length = this.times.push(time);
    for (const [service, backends] of Object.entries(services)) {
      for (const [backend, rates] of Object.entries(backends)) {
        const key = keyOf(service, backend);
        let values = this.#series.get(key);
        if (!values) {
          values = new Array(length - 1).fill(null);
          this.#series.set(key, values);
        }
        values[length - 1] = rates.connections;
      }
    }
    const over = length - KEPT;
    if (over > 0) this.times.splice(0, over);
    for (const [key, values] of this.#series) {
      if (values.length < length) values.push(null);
      if (over > 0) values.splice(0, over);
      if (values.every((value) => value === null)) this.#series.delete(key);
    }
  }

  /** Has every line interrupted here: nothing was heard for a while. */
  interrupt() {
    const last = this.times.at(-1);
    if (last !== undefined) this.add({ at: new Date(last * 1000 + 1).toISOString(), services: {} });
  }

  /** A backend's rates, one for each of `times`; `null` where there is none. */
  of(service, backend) {
    return this.#series.get(keyOf(service, backend)) ?? new Array(this.times.length).fill(null);
  }
}

function keyOf(service, backend) {
  // No name has a line break.
  return `${service}\n${backend}`;
}
