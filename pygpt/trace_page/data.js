// What was traced, and what is chosen on the page.

const byId = (id) => document.getElementById(id);
const source = JSON.parse(byId("trace").textContent);
const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };
const UNKNOWN = 65535; // bits of a token that nothing foretells
const N = source.tokens.length;
const hasAttention = source.attention !== null;

/** An array that Python packed. */
async function unpack({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new ARRAYS[type](await new Response(plain).arrayBuffer());
}

/** Thousandths of a bit as bits; null where there is nothing to foretell. */
const bitsOf = (stored) => (stored === UNKNOWN ? null : stored / 1000);

const percent = (p) => {
  const shown = 100 * p;
  return shown < 0.01 ? "<0.01%" : shown < 1 ? `${shown.toFixed(2)}%` : shown < 99.95 ? `${shown.toFixed(1)}%` : "100%";
};

/** A weight of attention, which was rounded to whole percents and two steps below. */
const weightSays = (w) => (w === 0 ? "<0.1%" : w < 0.01 ? `${(100 * w).toFixed(1)}%` : `${Math.round(100 * w)}%`);

/** What is chosen: the token, the one that the mouse is over, the layer (by its place) and head (-1: the mean of all),
 *  and what colours show. */
const state = { token: 0, over: null, layer: 0, head: 0, colour: "surprisal" };
const watchers = []; // called with what has changed

/** The token that is told about: the one under the mouse, else the one that is selected. N: what comes next. */
const told = () => state.over ?? state.token;

function change(parts) {
  Object.assign(state, parts);
  for (const watcher of watchers) watcher(parts);
}

// --- texts of tokens: text by itself, or in a list where it is a part of a character, as its bytes

const UNSEEN =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]/gu;
const code = (c) => `⟨${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

/** A text with line ends marked, and what is not seen as its number. */
const visible = (text) => text.replace(UNSEEN, code);

/** A token's text in one line. */
function label(word) {
  const text = source.words[word];
  const line = visible(typeof text === "string" ? text : text[0]).replaceAll(" ", "␣").replaceAll("\n", "↵");
  return line || "∅";
}

/** A token of the text in one line: the character that it completes, or its own text. */
const labelAt = (i) => (i === N ? "…" : i in source.whole ? visible(source.whole[i]) : label(source.tokens[i]));

/** An element with properties, and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A row of a list: a token, a bar as long as its share, and a number. */
function bar(text, share, { chosen = false, says = percent(share), where = "" } = {}) {
  const length = element("span", { className: "share" });
  length.style.setProperty("--share", share.toFixed(4));
  const number = element("span", { className: "number" }, says);
  const name = element("code", {}, text, element("span", { className: "where" }, where));
  return element("li", { className: chosen ? "chosen" : "" }, name, length, number);
}
