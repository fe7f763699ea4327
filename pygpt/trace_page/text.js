// The text: a list of tokens of which one is selected, by mouse, finger or keys.

const MOST = 14; // bits at which the colour is at its strongest
const LEGENDS = {
  surprisal: ["0 bits", `${MOST} bits`, "how surprising each token was: −log₂ of its probability"],
  entropy: ["0 bits", `${MOST} bits`, "how open its place was before it came: the entropy of what was foretold"],
  attention: ["0%", "100%", "how much the selected token looks at each, in the layer and head chosen below"],
};

class Text {
  constructor({ surprisal, entropy }, attention) {
    this.surprisal = surprisal;
    this.entropy = entropy;
    this.attention = attention;
    this.area = byId("text");
    this.spans = source.tokens.map((word, i) => this.#span(word, i));
    this.spans.push(element("span", { className: "token after" }, element("span", { className: "ink" }, "what comes next")));
    for (const [i, span] of this.spans.entries()) {
      span.role = "option";
      span.tabIndex = -1;
      span.dataset.token = i;
      span.setAttribute("aria-describedby", "place facts");
    }
    this.area.append(...this.spans);
    this.area.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.#choose(event, "over"));
    this.area.addEventListener("pointerleave", () => change({ over: null }));
    for (const type of ["click", "focusin"]) this.area.addEventListener(type, (event) => this.#choose(event, "token"));
    this.area.addEventListener("keydown", (event) => this.#key(event));
    for (const radio of document.querySelectorAll("[name=colour]")) {
      radio.addEventListener("change", () => change({ colour: radio.value }));
    }
    watchers.push((parts) => this.#update(parts));
  }

  #span(word, i) {
    const text = source.words[word];
    const ink = element("span", { className: "ink" }); // the space before a word has no colour
    let space = "";
    if (i in source.whole) ink.append(visible(source.whole[i]));
    else if (typeof text !== "string") ink.append(element("span", { className: "part" }, text[0]));
    else if (text === "") ink.append(element("span", { className: "part" }, "∅"));
    else {
      if (text.length > 1 && text[0] === " ") space = " ";
      for (const [n, line] of visible(text.slice(space.length)).split("\n").entries()) {
        if (n) ink.append(element("span", { className: "mark" }, "↵"), "\n");
        ink.append(line);
      }
    }
    return element("span", { className: "token" }, space, ink);
  }

  #choose(event, as) {
    const span = event.target.closest(".token");
    const token = span && Number(span.dataset.token);
    if (token !== null && token !== state[as]) change({ [as]: token });
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = Number(event.target.dataset.token);
    const to = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => this.#across(at, 1),
      ArrowUp: () => this.#across(at, -1),
      Home: () => 0,
      End: () => N,
    }[event.key]?.();
    if (to === undefined) return;
    event.preventDefault();
    this.spans[to]?.focus();
  }

  /** The nearest token of the next line, or of the one before. */
  #across(at, step) {
    const here = this.spans[at].getClientRects()[0];
    let best;
    for (let i = at + step, line; this.spans[i]; i += step) {
      const there = this.spans[i].getClientRects()[0];
      if (!there || step * (there.top - here.top) < here.height / 2) continue;
      line ??= there.top;
      if (Math.abs(there.top - line) > here.height / 2) break;
      const cost = Math.abs(there.left - here.left);
      if (!best || cost < best.cost) best = { cost, i };
    }
    return best?.i;
  }

  #heat(i) {
    if (state.colour === "surprisal") return (bitsOf(this.surprisal[i]) ?? 0) / MOST;
    if (state.colour === "entropy") return i ? bitsOf(this.entropy[i - 1]) / MOST : 0;
    return this.attention.weight(state.layer, state.head, Math.min(told(), N - 1), i);
  }

  #update(parts) {
    if ("token" in parts) {
      for (const chosen of this.area.querySelectorAll('[aria-selected="true"], [tabindex="0"]')) {
        chosen.setAttribute("aria-selected", "false");
        chosen.tabIndex = -1;
      }
      this.spans[state.token].setAttribute("aria-selected", "true");
      this.spans[state.token].tabIndex = 0;
    }
    if (!("colour" in parts) && state.colour !== "attention") return;
    for (let i = 0; i < N; i++) this.spans[i].style.setProperty("--heat", Math.min(this.#heat(i), 1).toFixed(3));
    if (!("colour" in parts)) return;
    this.area.classList.toggle("by-attention", state.colour === "attention");
    [byId("least").textContent, byId("most").textContent, byId("colour-says").textContent] = LEGENDS[state.colour];
  }
}
