import assert from "node:assert/strict";
import { test } from "node:test";

import * as format from "../src/format.js";

test("sizes grow through the units", () => {
  const sizes = [0, 512, 1023.96, 1536, 5 * 1024 ** 3, null];
  assert.deepEqual(sizes.map(format.bytes), ["0 B", "512 B", "1.0 KiB", "1.5 KiB", "5.0 GiB", "–"]);
});

test("small rates have a tenth, large ones none", () => {
  const rates = [0, 0.25, 99.94, 99.96, 12345.6, undefined];
  assert.deepEqual(rates.map(format.rate), ["0", "0.3", "99.9", "100", "12,346", "–"]);
});

test("a label goes with a number alone", () => {
  assert.deepEqual([format.rate(2), format.rate(null)].map((text) => format.labelled(text, "/s")), ["2.0/s", "–"]);
});

test("spans have their two largest units", () => {
  const spans = [0, 59.9, 60, 3600, 3661, 90061, null];
  assert.deepEqual(spans.map(format.span), ["0s", "59s", "1m", "1h", "1h 1m", "1d 1h", "–"]);
});

test("handshakes are shown in the unit that fits", () => {
  assert.deepEqual([850, 1234, 3e6].map(format.micros), ["850 µs", "1.2 ms", "3.0 s"]);
});

test("a time of another day has its day", () => {
  const now = new Date(2026, 10, 27, 12, 0, 0);
  const yesterday = new Date(2026, 10, 26, 23, 5, 9);
  assert.equal(format.clock(now.toISOString(), now), "12:00:00");
  assert.equal(format.clock(yesterday.toISOString(), now), "2026-11-26 23:05:09");
  assert.equal(format.clock("never", now), "never");
});
