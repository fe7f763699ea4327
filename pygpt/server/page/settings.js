// The panel of settings: what is sent with each request.

const DEFAULTS = { temperature: 0.8, top_p: 0.95 }; // as of `pygpt chat`; the API's own are those of OpenAI
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];

export class Settings {
  /** form: the panel; store: where they are kept. */
  constructor(form, store) {
    this.form = form;
    this.store = store;
    const kept = store.read("settings");
    for (const [name, value] of Object.entries(DEFAULTS)) form.elements[name].placeholder = value;
    for (const name of [...NUMBERS, "stop"]) {
      const value = kept?.[name];
      if (typeof value === "string") form.elements[name].value = value;
      form.elements[name].addEventListener("input", () => this.#changed(name));
      this.#judge(name);
    }
    form.elements.logprobs.checked = kept?.logprobs !== false;
    form.elements.logprobs.addEventListener("change", () => this.#changed("logprobs"));
  }

  /** The fields of a request. nRetries: of this answer; with a seed, each retry takes the next number. */
  options(nRetries) {
    const { elements } = this.form;
    const options = { ...DEFAULTS, logprobs: elements.logprobs.checked };
    for (const name of NUMBERS) {
      const field = elements[name];
      if (field.value.trim() && field.validity.valid) options[name] = field.valueAsNumber;
    }
    if ("seed" in options) options.seed = Math.min(options.seed + nRetries, Number.MAX_SAFE_INTEGER);
    const stop = elements.stop.value.split("\n").filter(Boolean);
    if (stop.length) options.stop = stop;
    return options;
  }

  /** The first field that cannot be sent, or null. */
  get wrong() {
    return NUMBERS.map((name) => this.form.elements[name]).find((field) => !field.validity.valid) ?? null;
  }

  reset() {
    for (const name of [...NUMBERS, "stop"]) {
      this.form.elements[name].value = "";
      this.#judge(name);
    }
    this.form.elements.logprobs.checked = true;
    this.#changed("logprobs");
  }

  #changed(name) {
    this.#judge(name);
    const { elements } = this.form;
    const kept = Object.fromEntries([...NUMBERS, "stop"].map((field) => [field, elements[field].value]));
    this.store.write("settings", { ...kept, logprobs: elements.logprobs.checked });
  }

  #judge(name) {
    const field = this.form.elements[name];
    const error = this.form.querySelector(`#${name}-error`);
    if (!error) return;
    error.textContent = field.validity.valid ? "" : message(field);
    field.setAttribute("aria-invalid", String(!field.validity.valid));
  }
}

function message({ min, max, step }) {
  const kind = step === "1" ? "A whole number" : "A number";
  if (max && Number(max) < 1e6) return `${kind} from ${min} to ${max}, or nothing.`;
  return `${kind} of at least ${min}, or nothing.`;
}
