// All conversations and which one is open: made, kept, named, deleted, written to files and read from them.

import { fromFile, newConversation, setSystem, systemOf, titleOf, toFile } from "./conversation.js";

const UNDO = 15; // seconds
const LARGEST = 20_000_000; // bytes of a file that is read

export class Library {
  /** changed(): another conversation is open, or the list is another. isBusy(id): it is being answered here. */
  constructor(store, notices, changed, isBusy) {
    this.store = store;
    this.notices = notices;
    this.changed = changed;
    this.isBusy = isBusy;
    this.removed = new Set(); // ids: an answer that still comes does not bring its conversation back
    this.all = store.list();
    this.current = newConversation();
    if (this.all.length) this.open(this.all[0].id);
    if (store.damaged.length) this.#tellDamaged();
    addEventListener("storage", () => this.#reread());
  }

  open(id) {
    const found = this.all.find((conversation) => conversation.id === id);
    if (!found) return;
    if (!found.whole) this.store.addTokens(found);
    Object.defineProperty(found, "whole", { value: true });
    this.current = found;
  }

  /** A new one, with the system prompt of the one before. */
  begin() {
    const system = systemOf(this.current);
    this.current = newConversation({ model: this.current.model });
    setSystem(this.current, system);
    this.changed();
  }

  /** It was changed: keep it, as the last one. */
  keep(conversation, { touch = true } = {}) {
    if (this.removed.has(conversation.id)) return;
    if (touch) conversation.updated = Date.now();
    if (!this.all.includes(conversation)) this.all.push(conversation);
    this.all.sort((a, b) => b.updated - a.updated);
    if (this.store.save(conversation)) this.notices.remove("full");
  }

  rename(id, title) {
    const conversation = this.#find(id);
    conversation.title = title;
    this.keep(conversation, { touch: false });
    this.changed();
  }

  remove(id) {
    const conversation = this.#find(id);
    this.all = this.all.filter((other) => other !== conversation);
    this.store.remove(id);
    this.removed.add(id);
    if (this.current === conversation) this.begin();
    const undo = () => {
      this.removed.delete(id);
      this.keep(conversation, { touch: false });
      this.current = conversation;
      this.changed();
    };
    this.notices.show("deleted", `“${titleOf(conversation)}” was deleted.`, [["Undo", "retry", undo]], { seconds: UNDO });
    this.changed();
  }

  /** To a file that the browser saves. */
  export(id) {
    const conversation = this.#find(id);
    const name = titleOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 40);
    download(`${name || "conversation"}.json`, toFile(conversation));
  }

  async import(files) {
    for (const file of files) {
      try {
        if (file.size > LARGEST) throw new Error(`${file.name} is larger than ${LARGEST / 1e6} MB`);
        const conversation = fromFile(await file.text(), file.name);
        this.keep(conversation);
        this.current = conversation;
      } catch (error) {
        this.notices.show("import", error.message);
      }
    }
    this.changed();
  }

  #find(id) {
    return this.all.find((conversation) => conversation.id === id);
  }

  /** Another tab wrote: what it has said is seen here too, and not written over by what was said before. */
  #reread() {
    const own = new Map([...this.all, this.current].map((conversation) => [conversation.id, conversation]));
    const isSame = (mine, kept) => mine && (this.isBusy(mine.id) || mine.updated === kept.updated);
    this.all = this.store.list().map((kept) => (isSame(own.get(kept.id), kept) ? own.get(kept.id) : kept));
    this.open(this.current.id); // one that is not kept any more stays open as it is
    this.changed();
  }

  #tellDamaged() {
    const n = this.store.damaged.length;
    const what = n === 1 ? "A conversation that this browser keeps is" : `${n} conversations that this browser keeps are`;
    const take = () => download("damaged.json", `${JSON.stringify(this.store.takeDamaged(), null, 2)}\n`);
    this.notices.show("damaged", `${what} damaged and cannot be shown.`, [["Save and remove", "export", take]]);
  }
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
