// The lens as a table: a row a token that was read, a column a layer, in each cell the likeliest next token.

class Lens {
  constructor({ lensWords, lensBits }) {
    this.words = lensWords; // (layers, N, top)
    this.bits = lensBits;
    this.top = source.lens.words.shape[2];
    this.table = this.#table();
    this.current = this.#cell(0, 0);
    this.current.tabIndex = 0;
    byId("lens-scroll").append(this.table);
    this.table.addEventListener("pointerover", (event) => this.#show(event.target.closest("td")));
    this.table.addEventListener("focusin", (event) => this.#focused(event.target));
    this.table.addEventListener("click", (event) => {
      const row = event.target.closest("tbody tr");
      if (row) change({ token: Number(row.dataset.token) });
    });
    this.table.addEventListener("keydown", (event) => this.#key(event));
    watchers.push((parts) => "token" in parts && this.#select());
  }

  #table() {
    const names = ["after", ...source.layers.map((layer) => `layer ${layer}`)];
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    const body = element("tbody");
    for (let i = 0; i < N; i++) {
      const row = element("tr", {}, element("th", { scope: "row" }, labelAt(i)));
      row.dataset.token = i;
      for (let layer = 0; layer < source.layers.length; layer++) row.append(this.#made(layer, i));
      body.append(row);
    }
    return element("table", { ariaLabel: "The likeliest next token after each layer" }, element("thead", {}, head), body);
  }

  #made(layer, i) {
    const at = (layer * N + i) * this.top;
    const word = this.words[at];
    const cell = element("td", { tabIndex: -1, className: word === source.tokens[i + 1] ? "right" : "" }, label(word));
    cell.style.setProperty("--heat", (2 ** -bitsOf(this.bits[at])).toFixed(2));
    return cell;
  }

  #cell(i, layer) {
    return this.table.tBodies[0].rows[i]?.cells[layer + 1];
  }

  #place(cell) {
    return { i: Number(cell.parentElement.dataset.token), layer: cell.cellIndex - 1 };
  }

  #show(cell) {
    if (!cell) return;
    const { i, layer } = this.#place(cell);
    const b = (text) => element("b", {}, text);
    const parts = [`After layer ${source.layers[layer]}, having read `, b(labelAt(i)), ": "];
    for (let n = 0; n < this.top; n++) {
      const at = (layer * N + i) * this.top + n;
      parts.push(n ? ", " : "", b(label(this.words[at])), ` ${percent(2 ** -bitsOf(this.bits[at]))}`);
    }
    byId("lens-says").replaceChildren(...parts);
  }

  #focused(cell) {
    this.current.tabIndex = -1;
    this.current = cell;
    cell.tabIndex = 0;
    this.#show(cell);
  }

  #key(event) {
    const { i, layer } = this.#place(event.target);
    const to = {
      ArrowUp: () => this.#cell(i - 1, layer),
      ArrowDown: () => this.#cell(i + 1, layer),
      ArrowLeft: () => (layer ? this.#cell(i, layer - 1) : undefined),
      ArrowRight: () => this.#cell(i, layer + 1),
    }[event.key]?.();
    if (event.key === "Enter") change({ token: i });
    if (!to) return;
    event.preventDefault();
    to.focus();
  }

  /** The row from which the selected token was foretold. */
  #select() {
    this.table.querySelector("tr.selected")?.classList.remove("selected");
    const i = Math.max(0, state.token - 1);
    const row = this.table.tBodies[0].rows[i];
    row.classList.add("selected");
    this.#show(row.cells[row.cells.length - 1]);
    const area = byId("lens-scroll");
    if (area.contains(document.activeElement)) return;
    area.scrollTop = row.offsetTop - area.clientHeight / 2;
  }
}
