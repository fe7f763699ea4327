// The field for a message, and the button beside it that sends or stops.

export class Composer {
  /** does: send(text), stop(). */
  constructor(form, does) {
    this.form = form;
    this.field = form.elements.message;
    this.send = form.querySelector("#send");
    this.stop = form.querySelector("#stop");
    this.does = does;
    this.text = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.stop.addEventListener("click", () => does.stop());
    this.field.addEventListener("input", () => this.#changed());
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.show({ busy: false, text: false, model: null });
  }

  /** text: whether the model goes on with a text; busy: whether it does something now. */
  show({ busy, text, model, empty }) {
    const focused = [this.send, this.stop].includes(document.activeElement);
    this.text = text;
    this.busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    if (focused) this.field.focus();
    const name = model ?? "the model";
    const goOn = empty ? `A text for ${name} to continue` : "More text, or nothing: it goes on";
    this.field.placeholder = text ? goOn : `Message to ${name}`;
    this.#changed();
  }

  clear() {
    this.field.value = "";
    this.#changed();
  }

  #submit() {
    if (!this.busy && (this.text || this.field.value.trim())) this.does.send(this.field.value);
  }

  #key(event) {
    if (event.key === "Escape" && this.busy) this.does.stop();
    const touch = matchMedia("(pointer: coarse)").matches; // whose keyboards have no other way to begin a line
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
    event.preventDefault();
    this.#submit();
  }

  #changed() {
    this.send.disabled = !this.text && !this.field.value.trim();
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}
