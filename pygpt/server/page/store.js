// Conversations, kept in the browser: each by itself, and the probabilities of its tokens beside it, which are the first to
// go when the browser gives no more room. What cannot be read is left where it is, and said.

const TEXT = "pygpt.conversation.";
const TOKENS = "pygpt.tokens.";

/** Keeps conversations: {id, title, updated, model, mode, forgotten, messages}. */
export class Store {
  /** storage: as localStorage; null where the browser allows none. tell(kind) is called when something cannot be kept:
   *  "none" (no storage), "full". */
  constructor(storage, tell) {
    this.storage = storage;
    this.tell = tell;
    this.damaged = [];
    if (!storage) tell("none");
  }

  /** All conversations, the last one first; without the tokens' probabilities. */
  list() {
    const found = [];
    this.damaged = [];
    for (const name of this.#names(TEXT)) {
      const conversation = parse(this.storage.getItem(name));
      if (isConversation(conversation)) found.push({ ...conversation, id: name.slice(TEXT.length) });
      else this.damaged.push(name);
    }
    return found.sort((a, b) => b.updated - a.updated);
  }

  /** The probabilities of a conversation's tokens, put into its messages. */
  addTokens(conversation) {
    const kept = parse(this.storage?.getItem(TOKENS + conversation.id));
    for (const [i, tokens, reasoningTokens] of Array.isArray(kept) ? kept : []) {
      const message = conversation.messages[i];
      if (!message) continue;
      if (fits(tokens, message.content)) message.tokens = tokens;
      if (fits(reasoningTokens, message.reasoning)) message.reasoningTokens = reasoningTokens;
    }
  }

  /** Write one. Whether there was room for its text. */
  save(conversation) {
    if (!this.storage) return false;
    const { messages, id, ...rest } = conversation;
    const bare = messages.map(({ tokens, reasoningTokens, ...message }) => message);
    const tokens = messages.flatMap((m, i) => (m.tokens || m.reasoningTokens ? [[i, m.tokens, m.reasoningTokens]] : []));
    const kept = this.#write(TEXT + id, JSON.stringify({ ...rest, messages: bare }), id);
    if (!kept) this.tell("full");
    else this.#saveTokens(id, tokens);
    return kept;
  }

  /** As many as there is room for, the last ones first. */
  #saveTokens(id, tokens) {
    const short = (_, value) => (typeof value === "number" ? Math.round(value * 1e5) / 1e5 : value);
    while (tokens.length && !this.#write(TOKENS + id, JSON.stringify(tokens, short), id))
      tokens = tokens.slice(Math.ceil(tokens.length / 2));
    if (!tokens.length) this.storage.removeItem(TOKENS + id);
  }

  remove(id) {
    this.storage?.removeItem(TEXT + id);
    this.storage?.removeItem(TOKENS + id);
  }

  /** What cannot be read, as it stands there: name -> text. */
  takeDamaged() {
    const found = Object.fromEntries(this.damaged.map((name) => [name, this.storage.getItem(name)]));
    for (const name of this.damaged) this.storage.removeItem(name);
    this.damaged = [];
    return found;
  }

  /** Something small by name, such as the settings. */
  read(name) {
    return parse(this.storage?.getItem(`pygpt.${name}`));
  }

  write(name, value) {
    this.#write(`pygpt.${name}`, JSON.stringify(value), null);
  }

  #names(prefix) {
    if (!this.storage) return [];
    return Array.from({ length: this.storage.length }, (_, i) => this.storage.key(i)).filter((n) => n.startsWith(prefix));
  }

  /** Where there is no room, the probabilities of other conversations' tokens make some, and last its own. */
  #write(name, text, id) {
    const others = this.#names(TOKENS).filter((other) => other !== TOKENS + id);
    const own = name.startsWith(TEXT) ? [TOKENS + id] : [];
    for (const sacrifice of [null, ...others, ...own]) {
      if (sacrifice) this.storage.removeItem(sacrifice);
      try {
        this.storage.setItem(name, text);
        return true;
      } catch {
        continue;
      }
    }
    return false;
  }
}

/** localStorage, or null where the browser forbids even to look at it. */
export function browserStorage() {
  try {
    localStorage.setItem("pygpt.probe", "");
    localStorage.removeItem("pygpt.probe");
    return localStorage;
  } catch (error) {
    return error.name === "QuotaExceededError" ? localStorage : null;
  }
}

function parse(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

export const isMessage = (message) => typeof message?.role === "string";

function isConversation(value) {
  return Array.isArray(value?.messages) && value.messages.every(isMessage) && Number.isFinite(value.updated);
}

/** Whether these may be the tokens of a text. */
function fits(tokens, text) {
  const isPair = (pair) => Array.isArray(pair) && typeof pair[0] === "string" && Number.isFinite(pair[1]);
  const isToken = (t) => isPair(t) && Array.isArray(t[2]) && t[2].every(isPair) && Number.isInteger(t[3]) && t[3] >= 0;
  return Array.isArray(tokens) && tokens.every(isToken) && tokens.reduce((sum, t) => sum + t[3], 0) <= (text ?? "").length;
}
