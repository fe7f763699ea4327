// The list of conversations.

import { titleOf } from "./conversation.js";
import { button, h } from "./dom.js";

const DAY = 86_400_000;

/** Shows conversations in a list; `does`: open(id), rename(id, title), save(id), remove(id). */
export class Sidebar {
  constructor(element, does) {
    this.element = element;
    this.does = does;
    this.renames = null; // the id of the one whose name is being written
  }

  /** conversations: the last one first. busy: ids of those that are being answered. */
  show(conversations, current, busy) {
    if (this.renames && this.renames === current) return;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const items = [];
    let heading = null;
    for (const conversation of conversations) {
      const when = age(conversation.updated);
      if (when !== heading) items.push(h("li", { class: "when" }, when));
      heading = when;
      items.push(this.#item(conversation, conversation.id === current, busy.has(conversation.id)));
    }
    this.element.replaceChildren(...items);
    if (focused) this.element.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #item(conversation, current, busy) {
    const { id } = conversation;
    const title = h(
      "button",
      {
        type: "button",
        class: "title",
        "data-key": id,
        "aria-current": current ? "true" : null,
        onclick: () => this.does.open(id),
      },
      h("span", { dir: "auto" }, titleOf(conversation)),
      busy ? h("span", { class: "busy" }, h("span", { class: "hidden" }, "is being answered")) : null,
    );
    if (!current) return h("li", {}, title);
    const actions = h(
      "div",
      { class: "actions" },
      button("Rename", "edit", () => this.#rename(conversation, item), { "data-key": "rename" }),
      button("Export", "export", () => this.does.save(id), { "data-key": "export" }),
      button("Delete", "delete", () => this.does.remove(id), { "data-key": "delete" }),
    );
    const item = h("li", { class: "current" }, title, actions);
    return item;
  }

  #rename(conversation, item) {
    const field = h("input", { "aria-label": "Name of the conversation", maxlength: "200" });
    field.value = titleOf(conversation);
    this.renames = conversation.id;
    const done = (keep) => {
      if (this.renames === null) return; // leaving the field after Enter or Escape
      this.renames = null;
      this.does.rename(conversation.id, keep ? field.value.trim() || null : conversation.title);
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      done(event.key === "Enter");
      this.element.querySelector('[data-key="rename"]')?.focus();
    });
    field.addEventListener("blur", () => done(true));
    item.replaceChildren(field);
    field.focus();
    field.select();
  }
}

function age(time) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - DAY) return "Yesterday";
  if (time >= today - 7 * DAY) return "Last seven days";
  return "Earlier";
}
