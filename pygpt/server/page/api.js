// The server, by OpenAI's API: https://platform.openai.com/docs/api-reference

import { events } from "./sse.js";

const TOP = 5; // likeliest tokens asked for at each place
const TEXT_TOKENS = 256; // a text goes on without end: so much at a time, where no limit is set
const BYTES = /^bytes:(?=\\x)/; // before a token that is no whole characters
const KINDS = { 401: "key", 403: "key", 404: "model", 429: "busy", 502: "away", 503: "busy", 504: "away" };
const CODES = { context_length_exceeded: "context", no_chat_template: "template" };

/** What went wrong: kind is "away" (no server), "key", "busy", "context" (too long for the model), "model", "template" (it
 *  has none), "cut" (the answer broke off) or "refused". */
export class ServerError extends Error {
  constructor(kind, message, retryAfter = null) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter; // seconds
  }
}

let key = "";
export const setKey = (text) => (key = text);
export const hasKey = () => key !== "";

/** Addresses are relative: the page works below a path as well. */
async function call(path, { body = null, signal = null } = {}) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("away", "The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const error = (await response.json().catch(() => null))?.error ?? {};
  const message = error.message ?? `The server answered ${response.status} ${response.statusText}`;
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  const kind = CODES[error.code] ?? KINDS[response.status] ?? "refused";
  return new ServerError(kind, message, Number.isFinite(seconds) ? seconds : null);
}

/** [{id, answers: false for a model without a chat template}] */
export async function models() {
  const { data } = await (await call("v1/models")).json();
  return data.map((model) => ({
    id: model.id,
    answers: model.has_chat_template ?? null,
  }));
}

export async function isThere() {
  try {
    return (await fetch("health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** What a model answers: parts of {text, reasoning, tokens, finish, usage}, as they come. options: fields of the request. */
export function answer(model, messages, options, signal) {
  const logprobs = options.logprobs ? { logprobs: true, top_logprobs: TOP } : {};
  return stream("v1/chat/completions", { ...options, model, messages, ...shared(logprobs) }, signal, (choice) => ({
    text: choice.delta?.content ?? "",
    reasoning: choice.delta?.reasoning_content ?? "",
    tokens: (choice.logprobs?.content ?? []).map((t) => [
      t.token,
      t.logprob,
      t.top_logprobs.map((other) => [other.token, other.logprob]),
    ]),
  }));
}

/** How a model goes on with a text; as `answer`. */
export function continuation(model, prompt, options, signal) {
  const logprobs = options.logprobs ? { logprobs: TOP } : {};
  const body = { max_tokens: TEXT_TOKENS, ...options, model, prompt, ...shared(logprobs) };
  return stream("v1/completions", body, signal, (choice) => ({
    text: choice.text ?? "",
    reasoning: "",
    tokens: (choice.logprobs?.tokens ?? []).map((token, i) => [
      token.replace(BYTES, ""),
      choice.logprobs.token_logprobs[i],
      likeliest(choice.logprobs.top_logprobs?.[i] ?? {}),
    ]),
  }));
}

function likeliest(top) {
  const found = Object.entries(top).map(([token, logprob]) => [token.replace(BYTES, ""), logprob]);
  return found.sort((a, b) => b[1] - a[1]);
}

const shared = (logprobs) => ({ logprobs: undefined, ...logprobs, stream: true, stream_options: { include_usage: true } });

async function* stream(path, body, signal, read) {
  const response = await call(path, { body, signal });
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(CODES[event.error.code] ?? "cut", event.error.message);
      const choice = event.choices?.[0];
      yield { ...(choice && read(choice)), finish: choice?.finish_reason ?? null, usage: event.usage ?? null };
    }
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
    throw new ServerError("cut", "The answer broke off: the connection to the server was lost.");
  }
  throw new ServerError("cut", "The answer broke off: the server ended it early.");
}
