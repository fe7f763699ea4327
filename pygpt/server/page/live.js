// What a screen reader is told. An answer is announced sentence by sentence and each once: the answer itself, whose
// elements change with every token, is no live region.

const LONG = 240; // characters without a sentence's end that are announced all the same
const FORGET = 10_000; // milliseconds

/** Say something that happened. */
export function say(text) {
  put("status", text);
}

function put(where, text) {
  const region = document.getElementById(where);
  const line = document.createElement("p");
  line.textContent = text;
  region.append(line);
  setTimeout(() => line.remove(), FORGET); // it would otherwise be read again by whoever reads the page to its end
}

/** Says a text that grows. */
export class Narrator {
  said = 0;

  /** text: all of it so far. */
  hear(text, { end = false } = {}) {
    const fresh = text.slice(this.said);
    const cut = end ? fresh.length : Math.max(...[...fresh.matchAll(/[.!?:。！？]\s|\n/g)].map((m) => m.index + 1), 0);
    const length = cut || (fresh.length > LONG ? fresh.lastIndexOf(" ", LONG) + 1 : 0);
    if (!length) return;
    this.said += length;
    const spoken = fresh.slice(0, length).replace(/[*_`#|]+/g, "").trim();
    if (spoken) put("narration", spoken);
  }
}
