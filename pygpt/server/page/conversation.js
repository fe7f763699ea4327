// A conversation: its messages, its name, and its file, which pygpt.Chat.save writes and load reads as well.

import { isMessage } from "./store.js";

const TITLE = 60; // characters

export function newConversation(settings = {}) {
  return { id: newId(), title: null, updated: Date.now(), mode: null, forgotten: 0, messages: [], ...settings };
}

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (x) => x.toString(16).padStart(2, "0")).join("");

/** The text of a message, whose content may be a list of parts, or missing where tools were called. */
export function contentText(message) {
  if (typeof message.content === "string") return message.content;
  if (Array.isArray(message.content)) return message.content.map((part) => part?.text ?? "").join("");
  return message.tool_calls ? JSON.stringify(message.tool_calls, null, 2) : "";
}

/** What a conversation is called: as it was named, or its first words. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user") ?? conversation.messages[0];
  const words = first ? contentText(first).trim().replace(/\s+/g, " ") : "";
  const cut = [...words].slice(0, TITLE).join("");
  return words.length > cut.length ? `${cut.trimEnd()}…` : words || "New conversation";
}

export function systemOf(conversation) {
  const first = conversation.messages[0];
  return first?.role === "system" ? contentText(first) : "";
}

export function setSystem(conversation, text) {
  const rest = conversation.messages.filter((message, i) => i > 0 || message.role !== "system");
  conversation.messages = text ? [{ role: "system", content: text }, ...rest] : rest;
}

/** The messages as the API takes them, without the oldest that no longer fit. */
export function toSend(conversation) {
  const nSystem = conversation.messages[0]?.role === "system" ? 1 : 0;
  const seen = conversation.messages.filter((_, i) => i < nSystem || i >= nSystem + conversation.forgotten);
  return seen.map(bare);
}

/** Without what the page keeps for itself. */
function bare({ role, content, reasoning: _, tokens: _1, reasoningTokens: _2, page: _3, ...rest }) {
  return { role, content, ...rest };
}

/** Leave out the oldest turns, half of those that are seen. Whether there was one to leave out. */
export function forgetHalf(conversation) {
  const nSystem = conversation.messages[0]?.role === "system" ? 1 : 0;
  const rest = conversation.messages.slice(nSystem);
  const starts = rest.flatMap((m, i) => (m.role === "user" && i > conversation.forgotten ? [i] : []));
  if (!starts.length) return false;
  conversation.forgotten = starts[Math.floor((starts.length - 1) / 2)];
  return true;
}

/** As `pygpt.Chat.save` writes it. */
export function toFile(conversation) {
  const messages = conversation.messages.map((message) => {
    const said = bare(message);
    return message.reasoning ? { ...said, reasoning: message.reasoning } : said;
  });
  return `${JSON.stringify({ messages }, null, 2)}\n`;
}

/** Error for a text that is no such file. */
export function fromFile(text, name) {
  let messages = null;
  try {
    messages = JSON.parse(text)?.messages;
  } catch {
    // said below
  }
  if (!Array.isArray(messages) || !messages.length || !messages.every(isMessage))
    throw new Error(`${name} is not a conversation: {"messages": [{"role": …, "content": …}, …]}`);
  const said = messages.map(({ tokens: _, reasoningTokens: _1, page: _2, ...message }) => message);
  return newConversation({ messages: said });
}
