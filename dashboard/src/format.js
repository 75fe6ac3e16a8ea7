// Numbers, sizes and times as people read them. Pure: knows neither the page nor the daemon.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const SPANS = [
  ["d", 86400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
];

/** What stands where there is nothing to tell. */
export const NOTHING = "–";

/** A count: `12,345`. */
export function count(value) {
  return value == null ? NOTHING : whole.format(value);
}

/** A number a second: `0`, `3.4`, `1,204`. */
export function rate(value) {
  if (value == null) return NOTHING;
  return value > 0 && value < 99.95 ? tenths.format(value) : whole.format(value);
}

/** Bytes: `512 B`, `1.2 MiB`. */
export function bytes(value) {
  if (value == null) return NOTHING;
  let unit = 0;
  let left = value;
  while (left >= 1023.95 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(left) : tenths.format(left)} ${UNITS[unit]}`;
}

/** Something a second: `3.4/s`, or with what it is, `1.2 KiB in`; nothing where there is nothing. */
export function labelled(text, label) {
  return text === NOTHING ? NOTHING : `${text}${label}`;
}

/** A part of 1 as a percentage: `33.3%`. */
export function share(value) {
  return value == null ? NOTHING : `${tenths.format(value * 100)}%`;
}

/** A ratio: `1.04`. */
export function ratio(value) {
  return value == null ? NOTHING : value.toFixed(2);
}

/** Microseconds, which is what handshakes take: `850 µs`, `1.2 ms`, `3.0 s`. */
export function micros(value) {
  if (value == null) return NOTHING;
  if (value < 1000) return `${whole.format(value)} µs`;
  if (value < 1e6) return `${tenths.format(value / 1e3)} ms`;
  return `${tenths.format(value / 1e6)} s`;
}

/** Seconds by their two largest units: `45s`, `12m 3s`, `3d 4h`. */
export function span(seconds) {
  if (seconds == null) return NOTHING;
  let left = Math.max(0, Math.floor(seconds));
  const first = SPANS.findIndex(([, size]) => left >= size);
  if (first < 0) return "0s";
  const parts = [];
  for (const [unit, size] of SPANS.slice(first, first + 2)) {
    const times = Math.floor(left / size);
    left -= times * size;
    if (times > 0) parts.push(`${times}${unit}`);
  }
  return parts.join(" ");
}

/** A time of RFC 3339 on this device's clock; with its day where that is not today's. */
export function clock(time, now = new Date()) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time ?? NOTHING);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const hour = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return date.toDateString() === now.toDateString() ? hour : `${day} ${hour}`;
}

/** `1 service`, `3 services`. */
export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
