// One answer from a request to its end: the text as it grows, how fast it came, waiting for a server that is busy.

import { Part } from "./parts.js";

const TRIES = 6; // while the server says that it is busy
const SHORTEST = 20; // milliseconds that tell a speed: within less, many tokens come at once
const LONGEST_WAIT = 30; // seconds between them, where the server does not say

export class Turn {
  /** request(signal): begins to ask, and gives the parts of an answer as they come. */
  constructor(conversation, request) {
    this.conversation = conversation;
    this.request = request;
    this.message = { role: "assistant", content: "", page: {} };
    this.text = new Part();
    this.reasoning = new Part();
    this.aborter = new AbortController();
    this.waits = null; // seconds until the next try
    this.changed = () => {};
  }

  get begun() {
    return this.text.text !== "" || this.reasoning.text !== "";
  }

  get stopped() {
    return this.aborter.signal.aborted;
  }

  stop() {
    this.aborter.abort();
  }

  /** Until the answer has ended, or was stopped. ServerError where it failed; what came before stays in the message. */
  async run() {
    try {
      for (let tries = 1; ; tries++) {
        try {
          await this.#read();
          break;
        } catch (error) {
          if (error.kind !== "busy" || this.begun || tries === TRIES) throw error;
          await this.#wait(error.retryAfter ?? Math.min(2 ** (tries - 1), LONGEST_WAIT));
        }
      }
    } catch (error) {
      this.message.page.finish = this.stopped ? "stopped" : "cut";
      if (!this.stopped) throw error;
    } finally {
      this.waits = null;
      this.text.end();
      this.reasoning.end();
      this.#keep();
    }
  }

  async #read() {
    const asked = performance.now();
    let first = null;
    let last = null;
    let nTokens = 0;
    for await (const { text, reasoning, tokens, finish, usage } of this.request(this.aborter.signal)) {
      if (finish) this.message.page.finish = finish;
      if (usage) {
        const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
        Object.assign(this.message.page, { nPrompt: usage.prompt_tokens, nCached: cached });
        nTokens = usage.completion_tokens;
      }
      if (text || reasoning || tokens?.length) {
        last = performance.now();
        first ??= last;
        nTokens += tokens?.length || 1;
        // A part of a stream has one of the two, or a token without a text as yet.
        const part = reasoning || (!text && !this.text.text && this.reasoning.text) ? this.reasoning : this.text;
        part.add(reasoning || text, tokens);
        if (reasoning && text) this.text.add(text, []);
      }
      this.#time(asked, first, last, nTokens);
      this.#keep();
      this.changed();
    }
  }

  #time(asked, first, last, nTokens) {
    if (first === null) return;
    const rate = last - first > SHORTEST ? (1000 * (nTokens - 1)) / (last - first) : null;
    Object.assign(this.message.page, { first: (first - asked) / 1000, rate, nTokens });
  }

  #keep() {
    this.message.content = this.text.text;
    if (this.text.tokens.length) this.message.tokens = this.text.tokens;
    if (!this.reasoning.text) return;
    this.message.reasoning = this.reasoning.text;
    if (this.reasoning.tokens.length) this.message.reasoningTokens = this.reasoning.tokens;
  }

  async #wait(seconds) {
    const { signal } = this.aborter;
    for (this.waits = Math.max(1, Math.ceil(seconds)); this.waits > 0; this.waits--) {
      this.changed();
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000);
        signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      });
      signal.throwIfAborted();
    }
    this.waits = null;
    this.changed();
  }
}
