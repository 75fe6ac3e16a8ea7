// Light, dark, or what the system says: chosen by hand and remembered.

import { memory } from "./dom.js";

const CHOICES = ["system", "light", "dark"];

/** Lets `select` choose; `changed` is called whenever the colours are others, also because the system's are. */
export function choose(select, changed) {
  const apply = (choice) => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
  };
  const remembered = memory.get("theme");
  select.value = CHOICES.includes(remembered) ? remembered : "system";
  apply(select.value);
  select.addEventListener("change", () => {
    memory.set("theme", select.value);
    apply(select.value);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
