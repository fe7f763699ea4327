// What could have stood there: a card beside the token that is pointed at, tapped or reached by arrow keys.

import { surprisal, visible } from "./answer.js";
import { h } from "./dom.js";

const DELAY = 120; // milliseconds before a card appears or goes, so that a mouse on its way shows none
const GAP = 6; // pixels between a token and its card
const EDGE = 8; // and between the card and the window's edge

const percent = (logprob) => {
  const p = 100 * Math.exp(logprob);
  return p >= 0.01 ? `${p.toFixed(p >= 99.995 || p < 1 ? 2 : 1)}%` : "<0.01%";
};

export class Card {
  /** partOf(element): the Part that a token's element belongs to. */
  constructor(element, log, partOf) {
    this.element = element;
    this.log = log;
    this.partOf = partOf;
    this.anchor = null;
    this.timer = null;
    log.addEventListener("focusin", (event) => this.#focused(event.target));
    log.addEventListener("focusout", () => this.hide());
    log.addEventListener("keydown", (event) => this.#key(event));
    log.addEventListener("click", (event) => event.target.closest(".token")?.focus({ preventScroll: true }));
    for (const area of [log, element]) {
      area.addEventListener("pointerover", (event) => this.#pointed(event));
      area.addEventListener("pointerleave", () => this.#later(() => this.#rest()));
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    document.addEventListener("selectionchange", () => document.getSelection().isCollapsed || this.hide());
    for (const change of ["scroll", "resize"]) addEventListener(change, () => this.#place(), { passive: true });
  }

  hide() {
    clearTimeout(this.timer);
    this.element.hidden = true;
    this.anchor?.removeAttribute("aria-describedby");
    this.anchor?.classList.remove("current");
    this.anchor = null;
  }

  show(token) {
    clearTimeout(this.timer);
    if (token === this.anchor) return;
    this.hide();
    const found = this.partOf(token)?.tokens[token.dataset.token];
    if (!found) return;
    this.anchor = token;
    token.classList.add("current");
    token.setAttribute("aria-describedby", this.element.id);
    this.element.replaceChildren(...content(found));
    this.element.hidden = false;
    this.#place();
  }

  #later(what) {
    clearTimeout(this.timer);
    this.timer = setTimeout(what, DELAY);
  }

  /** Where the mouse has left: the card of the token with the focus, or none. */
  #rest() {
    const focused = document.activeElement;
    if (focused?.classList.contains("token")) this.show(focused);
    else this.hide();
  }

  #pointed(event) {
    if (event.pointerType !== "mouse" || event.buttons) return;
    if (this.element.contains(event.target)) {
      clearTimeout(this.timer);
      return;
    }
    const token = event.target.closest(".token");
    if (token && this.anchor) this.show(token);
    else this.#later(() => (token ? this.show(token) : this.#rest()));
  }

  #focused(target) {
    if (!target.classList.contains("token")) return;
    for (const other of target.closest(".text").querySelectorAll('.token[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
    this.show(target);
  }

  #key(event) {
    const token = event.target;
    if (!token.classList?.contains("token") || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const all = [...token.closest(".text").querySelectorAll(".token")];
    const next = {
      ArrowRight: () => beside(all, token, 1),
      ArrowLeft: () => beside(all, token, -1),
      ArrowDown: () => across(all, token, 1),
      ArrowUp: () => across(all, token, -1),
      Home: () => all[0],
      End: () => all.at(-1),
    }[event.key]?.();
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  #place() {
    if (!this.anchor) return;
    if (!this.anchor.isConnected) {
      this.hide();
      return;
    }
    const at = this.anchor.getClientRects()[0];
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const { clientWidth, clientHeight } = document.documentElement;
    if (!at) return;
    const below = at.bottom + GAP;
    const top = below + height + EDGE <= clientHeight || at.top < height + GAP + EDGE ? below : at.top - GAP - height;
    const left = Math.max(EDGE, Math.min(at.left, clientWidth - width - EDGE));
    this.element.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}

/** The next token to one side: of one that Markdown cut in two, the other half is none. */
function beside(all, token, step) {
  let i = all.indexOf(token);
  do i += step;
  while (all[i]?.dataset.token === token.dataset.token);
  return all[i];
}

/** The nearest token of the next line, or of the one before. */
function across(all, token, direction) {
  const here = token.getClientRects()[0];
  let best = null;
  for (const other of all) {
    const there = other.getClientRects()[0];
    if (!there) continue;
    const down = direction * (there.top + there.height / 2 - here.top - here.height / 2);
    if (down <= here.height / 2) continue;
    const cost = down * 1000 + Math.abs(there.left - here.left);
    if (!best || cost < best.cost) best = { cost, other };
  }
  return best?.other;
}

function content([text, logprob, top]) {
  const bits = surprisal(logprob);
  const head = h(
    "div",
    { class: "card-head" },
    h("code", {}, visible(text) || "·"),
    h("strong", {}, percent(logprob)),
    h("span", {}, `log p ${(logprob || 0).toFixed(3).replace("-", "−")} · ${Math.abs(bits).toFixed(2)} bits`),
  );
  // The token itself is one of the likeliest, or stands below them.
  const known = top.some(([other]) => other === text);
  const rows = known ? top : [...top, [text, logprob]];
  const list = h("ol", { "aria-label": "The likeliest here" }, ...rows.map((row) => alternative(row, row[0] === text)));
  return top.length ? [head, list] : [head];
}

function alternative([text, logprob], chosen) {
  const bar = h("span", { class: "share", "aria-hidden": "true" });
  bar.style.setProperty("--share", Math.exp(logprob).toFixed(4));
  const shown = h("code", {}, visible(text) || "·");
  return h("li", { class: chosen ? "chosen" : null }, shown, " ", bar, h("span", {}, percent(logprob)));
}
