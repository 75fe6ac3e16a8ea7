// Drives a real browser for the tests of the workspace: a command a line on standard input, an answer a line on
// standard output, both JSON. Knows nothing of the page. Ends, and the browser with it, when its input does.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Nothing but what a page asks for leaves the browser. */
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// Its profile is a new and empty directory, which it removes.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ARGUMENTS,
});
const page = await browser.newPage({ viewport: { width: 1440, height: 1000 } });
const requests = [];
const errors = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => errors.push(error.stack ?? String(error)));
page.on("console", (message) => {
  if (message.type() === "error") errors.push(message.text());
});

const commands = {
  open: async ([url]) => {
    const answer = await page.goto(url, { waitUntil: "domcontentloaded" });
    return { status: answer.status(), headers: answer.headers() };
  },
  evaluate: ([script]) => page.evaluate(script),
  click: ([selector]) => page.click(selector, { timeout: 10_000 }),
  fill: ([selector, text]) => page.fill(selector, text, { timeout: 10_000 }),
  select: ([selector, value]) => page.selectOption(selector, value, { timeout: 10_000 }),
  press: ([key]) => page.keyboard.press(key),
  size: ([width, height]) => page.setViewportSize({ width, height }),
  media: ([colorScheme, reducedMotion]) => page.emulateMedia({ colorScheme, reducedMotion }),
  screenshot: ([path]) => page.screenshot({ path }).then(() => null),
  requests: () => requests,
  errors: () => errors,
  /** What axe-core finds wrong, from a severity on that it calls serious. */
  accessibility: async () => {
    await page.evaluate(axe);
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const told = ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)}`;
    return { passed: passes.length, serious: serious.map(told), all: violations.map(told) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...rest] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[command](rest)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
