// A text and the tokens it was made of: which characters belong to which token.

const WINDOW = 16; // how far a token is looked for behind text that no token gave

/** What a model writes into one place, its answer or its reasoning. */
export class Part {
  /** tokens: [text, log-probability, [[text, log-probability] of the likeliest], characters of `text`] each. */
  constructor(text = "", tokens = []) {
    this.text = text;
    this.tokens = tokens;
    this.waiting = []; // tokens whose text is still to come: half a character, or half a stop string
    this.ends = []; // where in `text` each token ends
    this.placed = 0;
    for (const token of tokens) this.ends.push((this.placed += token[3]));
  }

  add(text, tokens) {
    this.text += text;
    this.waiting.push(...tokens);
    this.#place(false);
  }

  /** Nothing comes any more: tokens that have no text (the end of text, a stop string) have none. */
  end() {
    this.#place(true);
  }

  /** The tokens of text[start:end] as [number or -1, start, end]; a token in part, where the limits cut it. */
  *pieces(start, end) {
    let low = 0;
    for (let high = this.ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] > start) high = middle;
      else low = middle + 1;
    }
    for (; start < end && low < this.ends.length; low++) {
      const stop = Math.min(this.ends[low], end);
      if (stop > start) yield [low, start, stop];
      start = Math.max(start, stop);
    }
    if (start < end) yield [-1, start, end];
  }

  #place(all) {
    while (this.waiting.length) {
      const token = this.waiting[0];
      const length = this.#match(token[0]);
      if (length === null && !all && this.placed + token[0].length > this.text.length) return;
      this.waiting.shift();
      this.placed += length ?? 0;
      this.tokens.push([token[0], token[1], token[2], length ?? 0]);
      this.ends.push(this.placed);
    }
    // A character of several tokens, none of which is text by itself, belongs to the last of them.
    if (all && this.ends.length) this.#stretch(this.text.length);
  }

  /** How many characters a token's text has where the last one ended; null: it is not there. */
  #match(text) {
    if (text === "") return null;
    if (this.text.startsWith(text, this.placed)) return text.length;
    if (this.placed === 0 && text[0] === " " && text.length > 1 && this.text.startsWith(text.slice(1)))
      return text.length - 1; // a decoder drops the space before the first word
    const found = this.text.slice(this.placed, this.placed + WINDOW + text.length).indexOf(text);
    if (found < 0 || !this.ends.length) return null;
    this.#stretch(this.placed + found);
    return text.length;
  }

  #stretch(to) {
    const last = this.ends.length - 1;
    this.tokens[last][3] += to - this.ends[last];
    this.ends[last] = to;
    this.placed = to;
  }
}
