// Markdown within a line of text: code, bold, italic. Numbers are places in the text, so that tokens find theirs.

const DEEPEST = 6; // bold in italic in bold ...

/** text[start:end] as [{kind: "text" | "code" | "strong" | "em", start, end, inner}]; inner: what strong and em hold. */
export function inline(text, start, end) {
  return new Scanner(text).scan(start, end, 0);
}

class Scanner {
  constructor(text) {
    this.text = text;
    this.missing = new Set(); // delimiters that close nowhere before an end: a line of stars is searched once
  }

  scan(start, end, depth) {
    const found = [];
    let plain = start;
    const put = (from, node, to) => {
      if (from > plain) found.push({ kind: "text", start: plain, end: from });
      if (node) found.push(node);
      plain = to;
    };
    let i = start;
    while (i < end) {
      const character = this.text[i];
      if (character === "\\" && i + 1 < end && /[\\`*_{}[\]()#+\-.!>~|]/.test(this.text[i + 1])) {
        put(i, null, i + 1);
        i += 2;
      } else if (character === "`") {
        const run = this.#run(i, end, "`");
        const close = this.#codeEnd(i + run, end, run);
        if (close < 0) i += run;
        else {
          put(i, { kind: "code", start: i + run, end: close }, close + run);
          i = close + run;
        }
      } else if (character === "*" || character === "_") {
        const run = Math.min(this.#run(i, end, character), 2);
        const close = depth < DEEPEST && this.#opens(i, run, start) ? this.#close(i, end, character.repeat(run)) : -1;
        if (close < 0) i += this.#run(i, end, character);
        else {
          const inner = this.scan(i + run, close, depth + 1);
          put(i, { kind: run === 2 ? "strong" : "em", start: i + run, end: close, inner }, close + run);
          i = close + run;
        }
      } else i++;
    }
    put(end, null, end);
    return found;
  }

  #run(i, end, character) {
    let n = 1;
    while (i + n < end && this.text[i + n] === character) n++;
    return n;
  }

  #codeEnd(from, end, run) {
    const key = `\`${run} ${end}`;
    if (this.missing.has(key)) return -1;
    for (let i = from; i < end; ) {
      if (this.text[i] !== "`") i++;
      else {
        const length = this.#run(i, end, "`");
        if (length === run) return i;
        i += length;
      }
    }
    this.missing.add(key);
    return -1;
  }

  /** Whether a delimiter at i may open: a letter follows, and none stands before an underscore. */
  #opens(i, run, start) {
    const after = this.text[i + run];
    return after !== undefined && !/\s/.test(after) && (this.text[i] === "*" || i === start || !/\w/.test(this.text[i - 1]));
  }

  #close(open, end, delimiter) {
    const from = open + delimiter.length;
    const key = `${delimiter} ${end}`;
    if (this.missing.has(key)) return -1;
    for (let i = this.text.indexOf(delimiter, from + 1); i >= 0 && i < end; i = this.text.indexOf(delimiter, i + 1)) {
      if (i + delimiter.length > end || /\s/.test(this.text[i - 1]) || this.text[i - 1] === "\\") continue;
      if (delimiter.length === 1 && (this.text[i + 1] === delimiter || this.text[i - 1] === delimiter)) continue;
      if (delimiter[0] === "_" && /\w/.test(this.text[i + delimiter.length] ?? "")) continue;
      return i;
    }
    this.missing.add(key);
    return -1;
  }
}
