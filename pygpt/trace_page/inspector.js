// The selected token: its numbers, what could have stood in its place, and where it looks.

const LOOKED_AT = 6; // rows

class Inspector {
  constructor({ surprisal, entropy, nextWords, nextBits }, attention) {
    this.surprisal = surprisal;
    this.entropy = entropy;
    this.words = nextWords;
    this.bits = nextBits;
    this.top = source.next.words.shape[1];
    this.attention = attention;
    watchers.push((parts) => {
      if ("token" in parts || "over" in parts) this.#token();
      if (hasAttention && !("colour" in parts && !("token" in parts))) this.#looks();
    });
  }

  #token() {
    const i = told();
    const word = source.tokens[i]; // undefined: what comes next
    const own = i < N && i in source.whole ? ` completes ${visible(source.whole[i])}` : "";
    byId("token").textContent = i === N ? "What comes next" : label(word) + own;
    byId("place").textContent = i === N ? `after ${N} tokens` : `token ${i} of ${N} · id ${source.ids[i]}`;
    const facts = byId("facts");
    if (i === N) facts.replaceChildren("Entropy ", element("b", {}, `${bitsOf(this.entropy[N - 1]).toFixed(2)} bits`));
    else if (i === 0) facts.replaceChildren("The first: nothing foretells it.");
    else {
      const bits = bitsOf(this.surprisal[i]);
      const expected = ` (${bitsOf(this.entropy[i - 1]).toFixed(2)} expected)`;
      const parts = ["probability ", element("b", {}, percent(2 ** -bits)), " · ", element("b", {}, `${bits.toFixed(2)} bits`)];
      facts.replaceChildren(...parts, expected);
    }
    byId("could-title").textContent = i === N ? "The likeliest" : "What could have stood here";
    byId("could-title").hidden = i === 0;
    byId("could").replaceChildren(...(i ? this.#alternatives(i, word) : []));
  }

  #alternatives(i, word) {
    const rows = [];
    for (let n = (i - 1) * this.top; n < i * this.top; n++) {
      rows.push({ word: this.words[n], p: 2 ** -bitsOf(this.bits[n]) });
    }
    // The token itself is one of the likeliest, or stands below them.
    if (i < N && !rows.some((row) => row.word === word)) rows.push({ word, p: 2 ** -bitsOf(this.surprisal[i]) });
    return rows.map((row) => bar(label(row.word), row.p, { chosen: row.word === word }));
  }

  #looks() {
    const from = Math.min(told(), N - 1);
    const head = state.head < 0 ? "all heads" : `head ${state.head}`;
    const last = told() === N ? ": the last token's" : "";
    byId("looks-title").textContent = `Where it looks, layer ${source.layers[state.layer]}, ${head}${last}`;
    const keys = [];
    for (let key = 0; key <= from; key++) keys.push({ key, w: this.attention.weight(state.layer, state.head, from, key) });
    keys.sort((a, b) => b.w - a.w || a.key - b.key);
    const shown = keys.slice(0, LOOKED_AT).filter(({ w }) => w > 0);
    byId("looks").replaceChildren(...shown.map(({ key, w }) => bar(labelAt(key), w, { says: weightSays(w), where: ` ${key}` })));
  }
}
