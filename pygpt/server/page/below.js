// What stands below a conversation's messages: how it could begin, that an answer is missing, or what went wrong.

import { button, h } from "./dom.js";

/** An element, or null where there is nothing to say. text: whether the model goes on with a text. does: answer, begin,
 *  forget, continue. */
export function below(conversation, { model, text, error }, does) {
  const { messages } = conversation;
  if (error) return describe(error, text, does);
  if (messages.every((message) => message.role === "system")) return welcome(model, text);
  if (messages.at(-1).role === "assistant") return null;
  return problem("This has no answer yet.", null, [["Answer", "send", does.answer]]);
}

function welcome(model, text) {
  const does = text ? "continues what you write." : "answers what you ask.";
  const hint = "Point at a word of its text, or tap it, to see how likely it was and what else could have stood there.";
  return h(
    "div",
    { class: "welcome" },
    h("h2", {}, text ? "Begin a text" : "Ask something"),
    h("p", {}, model ? h("strong", {}, model) : "The model", ` ${does} ${hint}`),
  );
}

function describe({ kind, message }, text, does) {
  const again = ["Try again", "retry", does.answer];
  const anew = ["New conversation", "new", does.begin];
  const forget = ["Leave out the oldest", "retry", does.forget];
  const whole = text ? "The text" : "The conversation";
  switch (kind) {
    case "away":
      return problem("The server could not be reached.", "Nothing is lost: try again when it is back.", [again]);
    case "busy":
      return problem("The server is busy.", message, [again]);
    case "key":
      return problem("The server asks for another API key.", message, [again]);
    case "context":
      return problem(`${whole} is too long for the model.`, message, text ? [anew] : [forget, anew]);
    case "template":
      return problem("This model continues texts; it was not trained to answer.", message, [
        ["Continue it as a text", "send", does.continue],
      ]);
    case "cut":
      return problem(message, "What came before it is kept.", [again]);
    default:
      return problem("The server refused this.", message, [again]);
  }
}

/** buttons: [label, icon, function]. */
function problem(text, detail, buttons) {
  const actions = buttons.map(([label, name, onclick]) => button(label, name, onclick));
  return h(
    "div",
    { class: "problem" },
    h("p", {}, text),
    detail ? h("p", { class: "detail" }, detail) : null,
    h("div", { class: "actions" }, ...actions),
  );
}
