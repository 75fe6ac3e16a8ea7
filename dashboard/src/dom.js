// The few things that every part of the page does with its elements. A write that changes nothing is left out:
// it would cost a layout, and have a screen reader say the same again.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, properties of the same name, and children. `class` is its class. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else set(made, name, value);
  }
  made.append(...children);
  return made;
}

/** Sets an attribute; `null`, `undefined` and `false` take it away, `true` leaves it empty. */
export function set(element, name, value) {
  if (value == null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets the text of an element that holds nothing else. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides an element. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** One of the symbols of `index.html`, which says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "use"));
  draw(svg, name);
  return svg;
}

/** Has an icon show another symbol. */
export function draw(svg, name) {
  set(svg.firstChild, "href", `#icon-${name}`);
}

/** Makes these the children of `parent`, in this order (after `head`), and leaves the focus where it was. */
export function arrange(parent, wanted, head = null) {
  const children = head ? [head, ...wanted] : wanted;
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let moved = false;
  children.forEach((child, index) => {
    const there = parent.children[index];
    if (there === child) return;
    parent.insertBefore(child, there ?? null);
    moved = true;
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
  if (moved && focused && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

/**
 * Keeps one view for each item: `make(item)` gives a new one with an `element`, its `update(item)` shows the item,
 * and its `remove()`, where it has one, ends it.
 */
export class Views {
  #parent;
  #make;
  #head;
  #views = new Map();

  /** Of the children of `parent` only `head`, the first, is none of the views. */
  constructor(parent, make, head = null) {
    this.#parent = parent;
    this.#make = make;
    this.#head = head;
  }

  /** Shows exactly these items, in this order. */
  update(items, key = (item) => item.name) {
    const left = new Map(this.#views);
    const elements = items.map((item) => {
      const name = key(item);
      let view = this.#views.get(name);
      if (!view) {
        view = this.#make(item);
        this.#views.set(name, view);
      }
      left.delete(name);
      view.update(item);
      return view.element;
    });
    for (const [name, view] of left) {
      view.remove?.();
      view.element.remove();
      this.#views.delete(name);
    }
    arrange(this.#parent, elements, this.#head);
  }

  /** All views. */
  values() {
    return this.#views.values();
  }
}

/** What this browser remembers of the page's settings; nothing where it may not. */
export const memory = {
  get(name) {
    try {
      return localStorage.getItem(`evenkeel.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`evenkeel.${name}`, value);
    } catch {
      // A browser that stores nothing still shows everything.
    }
  },
};
