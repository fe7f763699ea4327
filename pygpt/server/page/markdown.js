// The little of Markdown that models write, as places in their text: paragraphs, headings, code, lists, quotes, tables.
// What is none of these stays the text it is. Nothing here makes HTML: answer.js makes elements, and text of text.

const FENCE = /^([ \t]*)(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(?=\S)/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^([ \t]*)([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const DEEPEST = 16; // spaces that a nested item may stand in: deeper ones stand beside it
const WIDEST = 64; // columns of a table
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*(\|[ \t]*)?$/;

/** The blocks of text[from:]: {kind, start, end, ...}, one behind the other. The last is the only one that text to come
 *  can still change, so a stream is read again from its start. */
export function blocks(text, from = 0) {
  const lines = [];
  for (let start = from; start <= text.length; ) {
    const newline = text.indexOf("\n", start);
    const end = newline < 0 ? text.length : newline;
    lines.push({ start, end, text: text.slice(start, end) });
    start = end + 1;
  }
  const found = [];
  for (let i = 0; i < lines.length; ) {
    if (!lines[i].text.trim()) {
      i++;
      continue;
    }
    const read = fence(lines, i) ?? simple(lines, i) ?? table(lines, i) ?? list(lines, i) ?? paragraph(lines, i);
    found.push({ start: lines[i].start, end: lines[read.next - 1].end, ...read.block });
    i = read.next;
  }
  return found;
}

function fence(lines, i) {
  const open = FENCE.exec(lines[i].text);
  if (!open) return null;
  let next = i + 1;
  const closes = (line) => {
    const close = /^[ \t]*(`{3,}|~{3,})[ \t]*$/.exec(line);
    return close && close[1][0] === open[2][0] && close[1].length >= open[2].length;
  };
  while (next < lines.length && !closes(lines[next].text)) next++;
  const inside = lines.slice(i + 1, next);
  const rows = inside.map((line) => {
    const indent = /^[ \t]*/.exec(line.text)[0].length;
    return { start: line.start + Math.min(indent, open[1].length), end: line.end };
  });
  const closed = next < lines.length;
  return { block: { kind: "code", language: open[3].trim(), rows, closed }, next: closed ? next + 1 : next };
}

/** What one line, or lines with the same mark, say by themselves. */
function simple(lines, i) {
  const heading = HEADING.exec(lines[i].text);
  if (heading) {
    const rows = [{ start: lines[i].start + heading[0].length, end: lines[i].end }];
    return { block: { kind: "heading", level: heading[1].length, rows }, next: i + 1 };
  }
  if (RULE.test(lines[i].text)) return { block: { kind: "rule" }, next: i + 1 };
  if (!QUOTE.test(lines[i].text)) return null;
  let next = i;
  const rows = [];
  for (; next < lines.length && QUOTE.test(lines[next].text); next++)
    rows.push({ start: lines[next].start + QUOTE.exec(lines[next].text)[0].length, end: lines[next].end });
  return { block: { kind: "quote", rows }, next };
}

function table(lines, i) {
  if (!lines[i].text.includes("|") || !TABLE_RULE.test(lines[i + 1]?.text ?? "")) return null;
  const head = cells(lines[i]);
  if (!lines[i + 1].text.includes("|") || head.length > WIDEST) return null;
  let next = i + 2;
  while (next < lines.length && lines[next].text.includes("|")) next++;
  const rows = lines.slice(i + 2, next).map((line) => cells(line).slice(0, head.length));
  return { block: { kind: "table", head, rows }, next };
}

function cells(line) {
  const found = [];
  const inner = line.text.replace(/^\s*\|/, (mark) => " ".repeat(mark.length)).replace(/\|\s*$/, "");
  let start = 0;
  for (const cell of inner.split(/(?<!\\)\|/)) {
    const left = cell.length - cell.trimStart().length;
    found.push({ start: line.start + start + left, end: line.start + start + Math.max(left, cell.trimEnd().length) });
    start += cell.length + 1;
  }
  return found;
}

/** Items of a list, deeper ones by their indentation; code between items begins a list anew, which goes on counting. */
function list(lines, i) {
  if (!ITEM.test(lines[i].text)) return null;
  const items = [];
  let next = i;
  for (; next < lines.length; next++) {
    const line = lines[next];
    const item = ITEM.exec(line.text);
    if (item && !RULE.test(line.text)) {
      const depth = Math.min(DEEPEST, item[1].replaceAll("\t", "    ").length);
      const number = /\d/.test(item[2]) ? Number.parseInt(item[2], 10) : null;
      if (items.length && depth <= items[0].depth && (number === null) !== (items[0].number === null)) break;
      items.push({ depth, number, rows: [{ start: line.start + item[0].length, end: line.end }] });
    } else if (line.text.trim() && /^[ \t]/.test(line.text) && !FENCE.test(line.text)) {
      const indent = line.text.length - line.text.trimStart().length;
      items.at(-1).rows.push({ start: line.start + indent, end: line.end });
    } else if (line.text.trim() || !ITEM.test(lines[next + 1]?.text ?? "")) break;
  }
  return { block: { kind: "list", items }, next };
}

function paragraph(lines, i) {
  let next = i + 1;
  while (next < lines.length && lines[next].text.trim() && !interrupts(lines, next)) next++;
  return { block: { kind: "paragraph", rows: [{ start: lines[i].start, end: lines[next - 1].end }] }, next };
}

const interrupts = (lines, i) =>
  [FENCE, HEADING, RULE, QUOTE, ITEM].some((mark) => mark.test(lines[i].text)) || table(lines, i) !== null;
