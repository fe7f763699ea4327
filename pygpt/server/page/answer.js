// A text with its tokens as elements: as Markdown, as it is, or token by token with the surprise of each.

import { copyButton, h } from "./dom.js";
import { inline } from "./inline.js";
import { blocks } from "./markdown.js";

const BITS = [0.5, 1, 2, 4, 7]; // where one colour ends and the next begins

/** -log2 p: how surprising a token was. */
export const surprisal = (logprob) => -logprob / Math.LN2;

/** A text with its spaces and line ends to be seen. */
export function visible(text) {
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/[\u0000-\u001f\u007f]/g, "·");
}

/** Shows a Part in an element, and again when the Part has grown: what cannot change any more is left alone. */
export class Answer {
  constructor(part, { markdown }) {
    this.part = part;
    this.markdown = markdown;
    this.tokens = false; // token by token, with all that Markdown hides
    this.element = h("div", { class: "text", dir: "auto" });
    this.shown = []; // blocks and their elements
  }

  /** Shown anew from the start, token by token or not. */
  switch(tokens) {
    this.tokens = tokens;
    this.element.classList.toggle("tokens", tokens);
    this.element.replaceChildren();
    this.shown = [];
    this.update();
  }

  update() {
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.token : undefined;
    if (this.tokens) this.#showTokens();
    else if (this.markdown) this.#showMarkdown();
    else this.#showPlain();
    const first = this.element.querySelector(".token");
    if (first && !this.element.querySelector('.token[tabindex="0"]')) first.tabIndex = 0;
    if (focused !== undefined) this.token(focused)?.focus();
  }

  /** The first element of a token; null: Markdown hides it. */
  token(number) {
    return this.element.querySelector(`.token[data-token="${number}"]`);
  }

  #showTokens() {
    const from = this.shown.length;
    let start = from ? this.part.ends[from - 1] : 0;
    this.element.querySelector(".untold")?.remove();
    for (let i = from; i < this.part.tokens.length; i++) {
      const end = this.part.ends[i];
      const text = this.part.text.slice(start, end);
      const span = this.#span(i, text.replace(/\n/g, "↵\n") || `‹${visible(this.part.tokens[i][0]) || "·"}›`);
      if (!text) span.classList.add("silent");
      this.element.append(span);
      this.shown.push(span);
      start = end;
    }
    if (start < this.part.text.length) this.element.append(h("span", { class: "untold" }, this.part.text.slice(start)));
  }

  #showPlain() {
    this.element.replaceChildren();
    this.#put(this.element, 0, this.part.text.length);
  }

  #showMarkdown() {
    const last = this.shown.pop();
    last?.element.remove();
    for (const block of blocks(this.part.text, last?.start ?? 0)) {
      const element = this.#block(block);
      this.shown.push({ start: block.start, element, level: block.level });
      this.element.append(element);
    }
  }

  #block(block) {
    switch (block.kind) {
      case "code":
        return this.#code(block);
      case "heading":
        return this.#rows(h(`h${this.#rank(block.level)}`), block.rows);
      case "rule":
        return h("hr");
      case "quote":
        return h("blockquote", {}, this.#rows(h("p"), block.rows));
      case "table":
        return this.#table(block);
      case "list":
        return this.#list(block.items, 0, block.items.length);
      default:
        return this.#rows(h("p"), block.rows);
    }
  }

  /** Of a heading within the page: below that of its message, and below the one that it stands under by one. */
  #rank(level) {
    const above = [];
    for (const one of [...this.shown.map((block) => block.level), level]) {
      if (!one) continue;
      while (above.at(-1) >= one) above.pop();
      above.push(one);
    }
    return Math.min(6, 2 + above.length);
  }

  #code({ language, rows }) {
    const code = h("code");
    rows.forEach((row, i) => this.#put(code, row.start, row.end + (i + 1 < rows.length ? 1 : 0)));
    const copy = copyButton("Copy", () => rows.map((row) => this.part.text.slice(row.start, row.end)).join("\n"));
    const head = h("div", { class: "code-head" }, h("span", {}, language || "text"), copy);
    return h("div", { class: "code" }, head, h("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, code));
  }

  #table({ head, rows }) {
    const row = (cells, tag) => h("tr", {}, ...cells.map((cell) => this.#rows(h(tag), [cell])));
    const body = h("tbody");
    for (const cells of rows) body.append(row(cells, "td")); // more, perhaps, than a call can have arguments
    const table = h("table", {}, h("thead", {}, row(head, "th")), body);
    return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
  }

  /** items[from:to], whose deeper ones become lists within the item before them. */
  #list(items, from, to) {
    const { depth, number } = items[from];
    const element = number === null ? h("ul") : h("ol", { start: number });
    for (let i = from; i < to; ) {
      let next = i + 1;
      while (next < to && items[next].depth > depth) next++;
      const item = this.#rows(h("li"), items[i].rows);
      if (next > i + 1) item.append(this.#list(items, i + 1, next));
      element.append(item);
      i = next;
    }
    return element;
  }

  #rows(element, rows) {
    rows.forEach((row, i) => {
      if (i) element.append("\n");
      this.#inline(element, inline(this.part.text, row.start, row.end));
    });
    return element;
  }

  #inline(element, nodes) {
    for (const node of nodes) {
      if (node.kind === "text") {
        this.#put(element, node.start, node.end);
        continue;
      }
      const inner = h(node.kind);
      if (node.inner) this.#inline(inner, node.inner);
      else this.#put(inner, node.start, node.end);
      element.append(inner);
    }
  }

  /** text[start:end], each token in an element of its own. */
  #put(element, start, end) {
    for (const [number, from, to] of this.part.pieces(start, end)) {
      const text = this.part.text.slice(from, to);
      element.append(number < 0 ? text : this.#span(number, text));
    }
  }

  #span(number, text) {
    const bits = surprisal(this.part.tokens[number][1]);
    const level = BITS.filter((limit) => bits >= limit).length;
    return h("span", { class: `token s${level}`, "data-token": number, tabindex: "-1" }, text);
  }
}
