// The conversation as it is seen: each message, what can be done with it, what went wrong.

import { Answer } from "./answer.js";
import { contentText } from "./conversation.js";
import { button, copyButton, h } from "./dom.js";
import { Part } from "./parts.js";

const NAMES = { user: "You", assistant: "Answer", system: "System", tool: "Tool" };
const ENDS = {
  length: "The answer ended at the limit of its length, or of the model's context.",
  stopped: "Stopped.",
  cut: "The answer broke off here.",
};

/** The messages of one conversation in an element; `does` has what its buttons do: retry, edit(text). */
export class Log {
  constructor(element, does) {
    this.element = element;
    this.does = does;
    this.views = [];
    this.tokens = false;
    this.parts = new WeakMap(); // element of a text -> its Part
    this.made = new WeakMap(); // message -> its view
  }

  /** The Part that a token's element belongs to. */
  partOf(token) {
    return this.parts.get(token.closest(".text"));
  }

  /** turn: the one that is under way, or null. after: what stands below the messages, or null. */
  show(conversation, { turn, text, after }) {
    this.element.classList.toggle("continues", text);
    const { messages } = conversation;
    const nSystem = messages[0]?.role === "system" ? 1 : 0;
    const lastUser = messages.findLastIndex((message) => message.role === "user");
    this.views = messages.slice(nSystem).map((message, i) => {
      const options = {
        text,
        turn: turn?.message === message ? turn : null,
        last: i + nSystem === messages.length - 1,
        editable: !turn && i + nSystem === lastUser,
      };
      return this.#view(message, options);
    });
    // A text that runs on has its buttons at its end alone.
    if (text && !turn) this.views.at(-1)?.closeText(messages, this.views[lastUser - nSystem]);
    const elements = this.views.map((view) => view.element);
    if (conversation.forgotten) {
      const note = h("p", { class: "divider" }, "The model no longer sees what stands above.");
      elements.splice(conversation.forgotten, 0, note);
    }
    this.#put(after ? [...elements, after] : elements);
  }

  /** The view of a message: the one that there is, if it would be the same. */
  #view(message, options) {
    const made = this.made.get(message);
    const same = made && !options.text && Object.keys(options).every((name) => made.options[name] === options[name]);
    const view = same ? made : new View(message, options, this.does, this.parts);
    view.switch(this.tokens);
    this.made.set(message, view);
    return view;
  }

  /** Elements that are there already stay, and keep the focus. */
  #put(elements) {
    const wanted = new Set(elements);
    for (const element of [...this.element.children]) if (!wanted.has(element)) element.remove();
    elements.forEach((element, i) => {
      if (this.element.children[i] !== element) this.element.insertBefore(element, this.element.children[i] ?? null);
    });
  }

  /** Show a turn's message as it is now. */
  update() {
    this.views.at(-1)?.update();
  }

  switch(tokens) {
    this.tokens = tokens;
    for (const view of this.views) view.switch(tokens);
  }
}

class View {
  constructor(message, options, does, parts) {
    this.message = message;
    this.options = options;
    this.does = does;
    this.answers = [];
    const { turn } = options;
    const said = message.role === "assistant" && typeof message.content === "string";
    const who = NAMES[message.role] ?? message.role;
    this.who = h("h2", { class: "who" }, (said && message.page?.model) || who);
    this.body = h("div", { class: "body" });
    this.foot = h("div", { class: "foot" });
    this.element = h("article", { class: `message ${said ? "assistant" : "given"}`, "aria-label": who });
    this.element.dataset.role = message.role;
    if (said) {
      this.reasoning = this.#answer(turn?.reasoning ?? partOf(message.reasoning, message.reasoningTokens), parts, true);
      this.text = this.#answer(turn?.text ?? partOf(message.content, message.tokens), parts, !options.text);
      this.summary = h("summary", {});
      this.thoughts = h("details", { class: "reasoning" }, this.summary, this.reasoning.element);
      this.waiting = h("p", { class: "waiting" });
      this.body.append(this.thoughts, this.waiting, this.text.element);
      this.element.append(this.who, this.body, this.foot);
      this.update();
    } else {
      this.body.append(h("div", { class: "text", dir: "auto" }, contentText(message)));
      this.element.append(this.who, this.body, this.foot);
      this.#actions([copyButton("Copy", () => contentText(message))], options.editable);
    }
  }

  switch(tokens) {
    for (const answer of this.answers) if (answer.tokens !== tokens) answer.switch(tokens);
  }

  update() {
    const { turn } = this.options;
    for (const answer of this.answers) answer.update();
    const thinks = turn && !turn.text.text;
    this.thoughts.hidden = !this.reasoning.part.text;
    this.summary.textContent = thinks ? "Thinking…" : "Reasoning";
    this.text.element.hidden = !this.text.part.text && !this.text.part.tokens.length;
    this.waiting.hidden = !turn || turn.begun;
    this.waiting.textContent = turn?.waits ? `The server is busy. Next try in ${turn.waits} s.` : "…";
    this.waiting.classList.toggle("breathes", !turn?.waits);
    this.element.classList.toggle("growing", Boolean(turn));
    if (!turn) this.#finished();
  }

  /** The buttons of a whole text: given is the view of what was last given. */
  closeText(messages, given) {
    const copy = copyButton("Copy", () => messages.filter((m) => m.role !== "system").map(contentText).join(""));
    const retry = this.text ? [button("Retry", "retry", this.does.retry)] : [];
    const edit = given ? [button("Edit", "edit", () => given.edit(this.foot))] : [];
    this.foot.querySelector(".actions").replaceChildren(...retry, ...edit, copy);
    this.foot.classList.add("whole");
  }

  #finished() {
    const { finish } = this.message.page ?? {};
    const actions = [copyButton("Copy", () => this.message.content)];
    if (this.options.last) actions.unshift(button("Retry", "retry", this.does.retry));
    this.#actions(actions, false);
    const end = this.message.content || this.message.reasoning ? ENDS[finish] : "The model ended without a word.";
    if (end) this.foot.prepend(h("p", { class: "end" }, end));
    const speed = speedOf(this.message.page ?? {});
    if (speed) this.foot.append(speed);
  }

  #actions(buttons, editable) {
    if (editable) buttons.unshift(button("Edit", "edit", () => this.edit(this.foot)));
    this.foot.replaceChildren(h("div", { class: "actions" }, ...buttons));
  }

  /** A field in the message's place; foot: what is out of place meanwhile. */
  edit(foot) {
    const field = h("textarea", { rows: "3", "aria-label": "Your message" });
    field.value = contentText(this.message);
    const done = (send) => {
      this.body.replaceChildren(old);
      foot.hidden = false;
      if (send && field.value.trim()) this.does.edit(field.value);
      else foot.querySelector("button").focus();
    };
    const old = this.body.firstChild;
    const buttons = h(
      "div",
      { class: "actions" },
      button("Send", "send", () => done(true), { class: "primary" }),
      button("Cancel", "close", () => done(false)),
    );
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") done(false);
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        done(true);
      }
    });
    this.body.replaceChildren(h("div", { class: "editor" }, field, buttons));
    foot.hidden = true;
    field.focus();
  }

  #answer(part, parts, markdown) {
    const answer = new Answer(part, { markdown });
    parts.set(answer.element, part);
    this.answers.push(answer);
    return answer;
  }
}

const partOf = (text, tokens) => new Part(text ?? "", (tokens ?? []).map((token) => [...token]));

/** How fast an answer came, in small print; null: not known. */
function speedOf({ first, rate, nTokens, nPrompt, nCached }) {
  if (!Number.isFinite(first)) return null;
  const facts = [`${nTokens} token${nTokens === 1 ? "" : "s"}`];
  if (Number.isFinite(rate)) facts.push(`${rate >= 100 ? Math.round(rate) : rate.toFixed(1)} tokens/s`);
  facts.push(`first after ${first < 10 ? first.toFixed(2) : Math.round(first)} s`);
  const hint = nPrompt ? `${nPrompt} tokens read before it, ${nCached} of them from the cache` : null;
  return h("p", { class: "speed", title: hint }, facts.join(" · "));
}
