// Maps of attention: all heads small, one large. A row is a token that looks, a column one that is looked at.

const GAMMA = 0.6; // so that small weights are seen
const LABELLED = 36; // the most tokens that are written beside a map
const GAP = 3; // pixels between small maps
const TALL = 560; // pixels that all of them should not be taller than

/** The weights of all layers and heads. */
class Attention {
  constructor(layers) {
    this.layers = layers; // each (heads, N (N + 1) / 2), key by key
    this.scale = source.attention.scale;
    this.nHead = source.attention.n_head;
    this.size = (N * (N + 1)) / 2;
  }

  weight(layer, head, query, key) {
    if (key > query) return 0;
    const at = key * N - (key * (key - 1)) / 2 + query - key;
    const codes = this.layers[layer];
    if (head >= 0) return this.scale[codes[head * this.size + at]];
    let sum = 0;
    for (let h = 0; h < this.nHead; h++) sum += this.scale[codes[h * this.size + at]];
    return sum / this.nHead;
  }

  /** n by n opacities (0 to 255), each the greatest weight of the cells that fall into it. */
  map(layer, head, n) {
    const pixels = new Uint8ClampedArray(n * n);
    const shade = Uint8ClampedArray.from(this.scale, (w) => 255 * w ** GAMMA);
    const codes = this.layers[layer];
    let at = head * this.size;
    for (let key = 0; key < N; key++) {
      const column = Math.floor((key * n) / N);
      for (let query = key; query < N; query++) {
        const value = head < 0 ? 255 * this.weight(layer, head, query, key) ** GAMMA : shade[codes[at++]];
        const pixel = Math.floor((query * n) / N) * n + column;
        if (value > pixels[pixel]) pixels[pixel] = value;
      }
    }
    return pixels;
  }
}

/** Opacities as a canvas in one colour. */
function picture(pixels, n, [red, green, blue]) {
  const canvas = element("canvas", { width: n, height: n });
  const image = new ImageData(n, n);
  for (let i = 0; i < n * n; i++) image.data.set([red, green, blue, pixels[i]], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A colour of the style as it is now, as three numbers. */
function colour(name) {
  const one = element("canvas", { width: 1, height: 1 }).getContext("2d");
  const probe = byId("map");
  probe.style.color = `var(${name})`;
  one.fillStyle = getComputedStyle(probe).color;
  probe.style.color = "";
  one.fillRect(0, 0, 1, 1);
  return [...one.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

const css = (rgb, alpha = 1) => `rgb(${rgb.join(" ")} / ${alpha})`;

/** A canvas as large as it is shown, on a screen of any density: its context, in CSS pixels. */
function sized(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.imageSmoothingEnabled = false;
  return context;
}

class Overview {
  constructor(attention) {
    this.attention = attention;
    this.canvas = byId("overview");
    this.canvas.addEventListener("click", (event) => {
      const { x, y } = this.#at(event);
      if (x >= 0 && y >= 0) change({ head: x, layer: y });
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const { x, y } = this.#at(event);
      this.canvas.title = x >= 0 && y >= 0 ? `layer ${source.layers[y]}, head ${x}` : "";
    });
    watchers.push((parts) => (("layer" in parts || "head" in parts) && this.drawn ? this.#frame() : null));
  }

  draw() {
    const { nHead, layers } = this.attention;
    this.margin = 24;
    // Beside the large map; or below it, and large enough for a finger.
    const room = byId("heads").clientWidth - this.margin;
    const beside = matchMedia("(width >= 44rem)").matches;
    const step = beside ? Math.min(room / 2 / nHead, TALL / layers.length) : room / nHead;
    this.cell = Math.max(beside ? 12 : 20, Math.min(beside ? 56 : 40, Math.floor(step) - GAP));
    const pitch = this.cell + GAP;
    this.drawn = element("canvas");
    const size = [this.margin + pitch * nHead, this.margin + pitch * layers.length];
    const context = sized(this.drawn, ...size);
    const [ink, ground, faint] = ["--ink", "--tint", "--faint"].map(colour);
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const every = Math.ceil(18 / pitch); // number among those that have room
    const n = Math.min(N, Math.round(this.cell * (window.devicePixelRatio || 1)));
    for (let y = 0; y < layers.length; y++) {
      context.fillStyle = css(faint);
      const middle = this.margin + y * pitch + this.cell / 2;
      if (y % every === 0) context.fillText(source.layers[y], this.margin / 2, middle);
      for (let x = 0; x < nHead; x++) {
        const left = this.margin + x * pitch;
        if (!y && x % every === 0) context.fillText(x, left + this.cell / 2, this.margin / 2);
        context.fillStyle = css(ground);
        context.fillRect(left, this.margin + y * pitch, this.cell, this.cell);
        const map = picture(this.attention.map(y, x, n), n, ink);
        context.drawImage(map, left, this.margin + y * pitch, this.cell, this.cell);
        context.fillStyle = css(faint);
      }
    }
    this.size = size;
    this.#frame();
  }

  /** What was drawn, and a frame around the head that is chosen. */
  #frame() {
    const context = sized(this.canvas, ...this.size);
    context.drawImage(this.drawn, 0, 0, ...this.size);
    const step = this.cell + GAP;
    context.strokeStyle = css(colour("--frame"));
    context.lineWidth = 2;
    const width = state.head < 0 ? step * this.attention.nHead - GAP : this.cell;
    context.strokeRect(
      this.margin + Math.max(state.head, 0) * step - 1,
      this.margin + state.layer * step - 1,
      width + 2,
      this.cell + 2,
    );
  }

  #at(event) {
    const place = (offset, many) => {
      const n = Math.floor((offset - this.margin) / (this.cell + GAP));
      return n < many ? n : -1;
    };
    return {
      x: place(event.offsetX, this.attention.nHead),
      y: place(event.offsetY, this.attention.layers.length),
    };
  }
}

class HeadMap {
  constructor(attention) {
    this.attention = attention;
    this.canvas = byId("map");
    this.cursor = null; // the cell that is pointed at: { query, key }
    this.canvas.addEventListener("pointermove", (event) => this.#point(this.#at(event)));
    this.canvas.addEventListener("pointerdown", (event) => this.#point(this.#at(event)));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.canvas.addEventListener("click", (event) => {
      const at = this.#at(event);
      if (at) change({ token: at.query });
    });
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    watchers.push((parts) => {
      if (!this.picture) return;
      if ("layer" in parts || "head" in parts) this.draw();
      else if ("token" in parts) this.#frame();
    });
  }

  draw() {
    const room = Math.min(this.canvas.parentElement.clientWidth, 544);
    this.margin = N <= LABELLED ? Math.min(96, Math.round(room / 4)) : 0;
    this.side = room - this.margin;
    const ink = colour("--ink");
    const n = Math.min(N, 2 * Math.round(this.side));
    this.picture = picture(this.attention.map(state.layer, state.head, n), n, ink);
    this.#frame();
  }

  #frame() {
    const { margin, side } = this;
    const context = sized(this.canvas, margin + side, margin + side);
    const cell = side / N;
    const [ground, faint, text, frame] = ["--tint", "--faint", "--text", "--frame"].map(colour);
    context.fillStyle = css(ground);
    context.fillRect(margin, margin, side, side);
    context.drawImage(this.picture, margin, margin, side, side);
    const cursor = this.cursor;
    const row = cursor?.query ?? Math.min(state.token, N - 1);
    if (margin) {
      const size = Math.max(9, Math.min(13, cell - 2));
      context.textBaseline = "middle";
      for (let i = 0; i < N; i++) {
        context.fillStyle = css(i === row || i === cursor?.key ? text : faint);
        const weight = (on) => `${on ? "600 " : ""}${size}px ${getComputedStyle(document.body).fontFamily}`;
        const middle = margin + (i + 0.5) * cell;
        context.font = weight(i === row);
        context.textAlign = "right";
        context.fillText(short(labelAt(i)), margin - 6, middle, margin - 8);
        context.font = weight(i === cursor?.key);
        context.save();
        context.translate(middle, margin - 6);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
        context.fillText(short(labelAt(i)), 0, 0, margin - 8);
        context.restore();
      }
    }
    context.strokeStyle = css(frame);
    context.lineWidth = cell > 6 ? 1.5 : 1;
    context.strokeRect(margin, margin + row * cell, (row + 1) * cell, Math.max(cell, 2));
    if (cursor) context.strokeRect(margin + cursor.key * cell, margin + row * cell, Math.max(cell, 4), Math.max(cell, 4));
    this.#say(cursor);
  }

  #say(cursor) {
    const b = (text) => element("b", {}, text);
    const says = byId("map-says");
    const head = state.head < 0 ? "all heads" : `head ${state.head}`;
    const which = `Layer ${source.layers[state.layer]}, ${head}`;
    if (!cursor) says.textContent = `${which}. Point at a cell, tap it, or move with the arrow keys: who looks at whom.`;
    else {
      const w = this.attention.weight(state.layer, state.head, cursor.query, cursor.key);
      const [from, to] = [cursor.query, cursor.key].map((i) => [b(labelAt(i)), ` (${i})`]);
      says.replaceChildren(...from, " looks at ", ...to, ": ", b(weightSays(w)));
    }
  }

  #at(event) {
    const place = (offset) => Math.floor(((offset - this.margin) / this.side) * N);
    const [query, key] = [place(event.offsetY), place(event.offsetX)];
    return query >= 0 && query < N && key >= 0 && key <= query ? { query, key } : null;
  }

  #point(cursor) {
    if (cursor?.query === this.cursor?.query && cursor?.key === this.cursor?.key) return;
    this.cursor = cursor;
    this.#frame();
  }

  #key(event) {
    const at = this.cursor ?? { query: Math.min(state.token, N - 1), key: 0 };
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter") change({ token: at.query });
    if (!step) return;
    event.preventDefault();
    const query = Math.max(0, Math.min(N - 1, at.query + step[0]));
    this.#point({ query, key: Math.max(0, Math.min(query, at.key + step[1])) });
  }
}

const short = (text) => (text.length > 14 ? `${text.slice(0, 13)}…` : text);
