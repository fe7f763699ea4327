// Elements without HTML strings: what a model or a server wrote only ever becomes text.

import { say } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (functions whose names begin with "on" listen to events) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** One of the drawings at the top of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button with a drawing; its label is a text beside it, or only for screen readers and as a hint. */
export function button(label, name, onclick, { quiet = false, ...attributes } = {}) {
  const shown = quiet ? h("span", { class: "hidden" }, label) : label;
  return h("button", { type: "button", title: quiet ? label : null, onclick, ...attributes }, icon(name), shown);
}

export const byId = (id) => document.getElementById(id);

/** A button that copies a text, and says for a moment that it did. */
export function copyButton(label, text) {
  const copied = button(label, "copy", async () => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      done = "The browser does not allow it"; // without https, other than on this machine
    }
    copied.lastChild.textContent = done;
    say(done);
    setTimeout(() => (copied.lastChild.textContent = label), 1500);
  });
  return copied;
}
