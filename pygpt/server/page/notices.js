// Lines above the conversation about what concerns the whole page: each once, until it is settled or closed.

import { button, h } from "./dom.js";
import { say } from "./live.js";

export class Notices {
  constructor(element) {
    this.element = element;
    this.shown = new Map();
  }

  /** name: what it is about, of which there is one. buttons: [label, icon, function], after which it goes. */
  show(name, text, buttons = [], { seconds = null } = {}) {
    if (this.shown.get(name)?.dataset.text === text) return;
    this.remove(name);
    const actions = buttons.map(([label, drawing, onclick]) =>
      button(label, drawing, () => {
        this.remove(name);
        onclick();
      }),
    );
    const close = button("Close", "close", () => this.remove(name), { quiet: true });
    const notice = h("div", { class: "notice", "data-text": text }, h("p", {}, text), ...actions, close);
    this.shown.set(name, notice);
    this.element.append(notice);
    say(text);
    if (seconds) setTimeout(() => this.shown.get(name) === notice && this.remove(name), seconds * 1000);
  }

  remove(name) {
    this.shown.get(name)?.remove();
    this.shown.delete(name);
  }
}
