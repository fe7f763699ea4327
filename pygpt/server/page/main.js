// The page: what is open, what is asked, and what happens with the answer.

import * as api from "./api.js";
import { below } from "./below.js";
import { Card } from "./card.js";
import { Composer } from "./composer.js";
import { contentText, forgetHalf, setSystem, systemOf, titleOf, toSend } from "./conversation.js";
import { byId } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Library } from "./library.js";
import { Narrator, say } from "./live.js";
import { Log } from "./messages.js";
import { Notices } from "./notices.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { browserStorage, Store } from "./store.js";
import { setTheme, theme } from "./theme.js";
import { Turn } from "./turn.js";

const SAVED = 2000; // milliseconds between two savings of an answer that grows
const POLLED = 2000; // and between two looks for a server that is away
const NEAR = 120; // pixels from the end of the page within which it follows what grows
const UNKEPT = {
  none: "This browser keeps nothing for this page: conversations last until it is closed. Export what you need.",
  full: "The browser has no more room: this conversation is not kept. Export it, or delete others.",
};

const notices = new Notices(byId("notices"));
const store = new Store(browserStorage(), (kind) => notices.show(kind, UNKEPT[kind]));
const settings = new Settings(byId("settings-form"), store);
const turns = new Map(); // id of a conversation -> its Turn
const library = new Library(store, notices, () => show(), (id) => turns.has(id));
const problems = new Map(); // id of a conversation -> the ServerError of its last turn
const retries = new Map(); // id of a conversation -> how often its last answer was asked for again
const log = new Log(byId("log"), { retry, edit });
const card = new Card(byId("card"), byId("log"), (token) => log.partOf(token));
const composer = new Composer(byId("composer"), { send, stop: () => turns.get(library.current.id)?.stop() });
const sidebar = new Sidebar(byId("conversations"), {
  open(id) {
    library.open(id);
    drawers.sidebar.closeInFront();
    show();
    scrollTo(0, document.body.scrollHeight);
  },
  rename: (id, title) => library.rename(id, title),
  save: (id) => library.export(id),
  remove(id) {
    turns.get(id)?.stop();
    library.remove(id);
    composer.field.focus();
  },
});
const main = document.querySelector("main");
const drawers = {
  sidebar: new Drawer(byId("sidebar"), byId("open-sidebar"), "(min-width: 56rem)", [main, byId("settings")]),
  settings: new Drawer(byId("settings"), byId("open-settings"), "(min-width: 75rem)", [main, byId("sidebar")]),
};
let models = [];

// --- what is seen -----------------------------------------------------------------------------------------------------

function show() {
  const { current } = library;
  const turn = turns.get(current.id);
  const model = modelOf(current);
  card.hide();
  log.show(current, { turn, text: continues(current), after: turn ? null : after(current) });
  sidebar.show(library.all, current.id, turns);
  composer.show({ busy: Boolean(turn), text: continues(current), model: model?.id, empty: !current.messages.length });
  byId("model").value = model?.id ?? "";
  byId("mode").hidden = !model || !continues(current);
  byId("settings-form").elements.mode.value = current.mode ?? "";
  const system = byId("settings-form").elements.system;
  if (document.activeElement !== system) system.value = systemOf(current);
  document.title = current.messages.length ? `${titleOf(current)} – pygpt` : "pygpt";
}

function after(conversation) {
  const about = { model: modelOf(conversation)?.id, text: continues(conversation), error: problems.get(conversation.id) };
  return below(conversation, about, {
    answer: again,
    begin: () => library.begin(),
    forget: () => forgetHalf(conversation) && again(),
    continue() {
      conversation.mode = "text";
      again();
    },
  });
}

// --- what is asked ----------------------------------------------------------------------------------------------------

const modelOf = (conversation) => models.find((model) => model.id === conversation.model) ?? models[0];

/** Whether a conversation is a text that the model goes on with. */
function continues(conversation) {
  return conversation.mode ? conversation.mode === "text" : modelOf(conversation)?.answers === false;
}

function send(text) {
  const { current } = library;
  if (text) current.messages.push({ role: "user", content: text });
  else if (!current.messages.length) return;
  retries.delete(current.id);
  composer.clear();
  begin(current);
}

function edit(text) {
  const { current } = library;
  const last = current.messages.findLastIndex((message) => message.role === "user");
  current.messages.splice(last, Infinity, { role: "user", content: text });
  retries.delete(current.id);
  begin(current);
}

/** Another answer in the place of the last; where none comes, the last one stays. */
function retry() {
  retries.set(library.current.id, (retries.get(library.current.id) ?? 0) + 1);
  again();
}

/** An answer, in the place of the one that is there, if any. */
function again() {
  const { current } = library;
  begin(current, current.messages.at(-1).role === "assistant" ? current.messages.pop() : null);
}

async function begin(conversation, replaced = null) {
  if (turns.has(conversation.id)) return;
  if (settings.wrong) {
    if (replaced) conversation.messages.push(replaced);
    drawers.settings.show();
    settings.wrong.focus();
    show();
    return;
  }
  const seen = { ...conversation, messages: [...conversation.messages] };
  const options = settings.options(retries.get(conversation.id) ?? 0);
  const turn = new Turn(conversation, (signal) => ask(turn, seen, options, signal));
  turns.set(conversation.id, turn);
  problems.delete(conversation.id);
  conversation.messages.push(turn.message);
  library.keep(conversation);
  show();
  scrollTo(0, document.body.scrollHeight);
  composer.field.focus({ preventScroll: true });
  const growth = grow(turn);
  try {
    await turn.run();
  } catch (error) {
    failed(conversation, error);
  }
  growth.end();
  turns.delete(conversation.id);
  if (!turn.begun && turn.message.page.finish !== "stop") {
    conversation.messages.pop();
    if (replaced) conversation.messages.push(replaced);
  }
  library.keep(conversation);
  show();
  if (growth.follows()) scrollTo(0, document.body.scrollHeight);
}

/** The parts of an answer. seen: the conversation as it was before the answer became its last message. */
async function* ask(turn, seen, options, signal) {
  if (!models.length) await connect();
  const model = modelOf(seen)?.id ?? "";
  turn.message.page.model = model;
  if (!continues(seen)) {
    yield* api.answer(model, toSend(seen), options, signal);
    return;
  }
  const said = seen.messages.filter((message) => message.role !== "system");
  yield* api.continuation(model, said.map(contentText).join(""), options, signal);
}

/** Shows, keeps and says an answer while it grows: no more often than showing it takes. */
function grow(turn) {
  const narrator = new Narrator();
  let saved = performance.now();
  let pending = null;
  let waited = false;
  const follows = () => document.body.scrollHeight - scrollY - innerHeight < NEAR;
  const update = () => {
    pending = null;
    const began = performance.now();
    if (turn.waits && !waited) say("The server is busy.");
    waited ||= turn.waits !== null;
    if (library.current === turn.conversation) {
      const following = follows();
      log.update();
      if (following) scrollTo(0, document.body.scrollHeight);
      narrator.hear(turn.text.text);
    }
    cost = performance.now() - began;
    if (began - saved > SAVED) {
      saved = began;
      library.keep(turn.conversation);
    }
  };
  let cost = 0;
  turn.changed = () => (pending ??= setTimeout(update, Math.max(16, 4 * cost)));
  const end = () => {
    clearTimeout(pending);
    turn.changed = () => {};
    if (library.current !== turn.conversation) return;
    narrator.hear(turn.text.text, { end: true });
    if (turn.begun) say(turn.stopped ? "Stopped." : "End of the answer.");
  };
  return { end, follows };
}

function failed(conversation, error) {
  const known = error instanceof api.ServerError ? error : new api.ServerError("cut", `The page failed: ${error.message}`);
  if (known !== error) console.error(error);
  problems.set(conversation.id, known);
  say(known.message);
  if (known.kind === "away") watch();
  if (known.kind === "key") askKey(known.message);
}

// --- the server -------------------------------------------------------------------------------------------------------

async function connect() {
  try {
    models = await api.models();
  } catch (error) {
    if (error.kind === "key") askKey(error.message);
    else if (error.kind === "away") watch();
    else notices.show("models", `The server does not list its models: ${error.message}`);
    return;
  }
  notices.remove("models");
  const options = models.map(({ id }) => new Option(id, id));
  byId("model").replaceChildren(...options);
  show();
}

/** Until the server is back. */
async function watch() {
  if (notices.shown.has("away")) return;
  notices.show("away", "The server cannot be reached. This page looks for it and goes on when it is there.");
  while (!(await api.isThere())) await new Promise((resolve) => setTimeout(resolve, POLLED));
  notices.remove("away");
  say("The server is back.");
  await connect();
}

function askKey(message) {
  const form = byId("key-form");
  byId("key-hint").textContent = api.hasKey() ? `The server says: ${message}` : "This server asks for a key.";
  form.hidden = false;
  form.elements.key.focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  useKey(form.elements.key.value.trim());
  form.elements.key.value = "";
  form.hidden = true;
  problems.delete(library.current.id);
  composer.field.focus();
  connect();
});

function useKey(key) {
  api.setKey(key);
  try {
    sessionStorage.setItem("pygpt.key", key); // for this tab, until it is closed
  } catch {
    // It lasts as long as the page.
  }
}

// --- the rest of the page ---------------------------------------------------------------------------------------------

function switchTokens(on) {
  byId("tokens").setAttribute("aria-pressed", String(on));
  byId("legend").hidden = !on;
  card.hide();
  log.switch(on);
  store.write("tokens", on);
}

byId("new").addEventListener("click", () => {
  library.begin();
  drawers.sidebar.closeInFront();
  composer.field.focus();
});
byId("import").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", async (event) => {
  await library.import(event.target.files);
  event.target.value = "";
  drawers.sidebar.closeInFront();
});
byId("model").addEventListener("change", (event) => {
  library.current.model = event.target.value;
  if (library.all.includes(library.current)) library.keep(library.current, { touch: false });
  problems.delete(library.current.id);
  show();
});
byId("tokens").addEventListener("click", () => switchTokens(byId("tokens").getAttribute("aria-pressed") !== "true"));
byId("reset").addEventListener("click", () => settings.reset());
byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
byId("settings-form").elements.system.addEventListener("change", (event) => {
  setSystem(library.current, event.target.value.trim());
  if (library.all.includes(library.current)) library.keep(library.current, { touch: false });
});
byId("settings-form").elements.mode.addEventListener("change", (event) => {
  library.current.mode = event.target.value || null;
  problems.delete(library.current.id);
  show();
});
for (const choice of byId("settings-form").elements.theme) {
  choice.checked = choice.value === theme();
  choice.addEventListener("change", () => setTheme(choice.value));
}
addEventListener("pagehide", () => {
  for (const turn of turns.values()) library.keep(turn.conversation);
});
addEventListener("scroll", () => {
  byId("to-end").hidden = document.body.scrollHeight - scrollY - innerHeight < NEAR;
}, { passive: true });
byId("to-end").addEventListener("click", () => scrollTo(0, document.body.scrollHeight));

try {
  api.setKey(sessionStorage.getItem("pygpt.key") ?? "");
} catch {
  // None is kept.
}
switchTokens(store.read("tokens") === true);
show();
scrollTo(0, document.body.scrollHeight);
composer.field.focus({ preventScroll: true });
connect();
