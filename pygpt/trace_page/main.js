// Reads what was packed, and puts the parts together.

async function begin() {
  const { surprisal, entropy, next, lens, attention } = source;
  const packed = [surprisal, entropy, next.words, next.bits, ...(lens ? [lens.words, lens.bits] : [])];
  const names = ["surprisal", "entropy", "nextWords", "nextBits", "lensWords", "lensBits"].slice(0, packed.length);
  const arrays = await Promise.all(packed.map(unpack));
  const numbers = Object.fromEntries(names.map((name, i) => [name, arrays[i]]));
  const weights = hasAttention ? new Attention(await Promise.all(attention.layers.map(unpack))) : null;
  document.documentElement.classList.toggle("no-attention", !hasAttention);
  summarize(numbers.surprisal);
  new Text(numbers, weights);
  new Inspector(numbers, weights);
  byId("lens").hidden = !lens;
  if (lens) new Lens(numbers);
  const maps = hasAttention ? [new Overview(weights), new HeadMap(weights)] : [];
  if (hasAttention) pickers();
  const draw = () => maps.forEach((map) => map.draw());
  themes(draw);
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width || contentRect.width === width) return;
    width = contentRect.width;
    draw();
  }).observe(byId("heads"));
  const known = [...numbers.surprisal].map((stored) => bitsOf(stored) ?? -1);
  state.token = known.indexOf(Math.max(...known));
  state.layer = Math.floor(source.layers.length / 2);
  change({ ...state });
  document.documentElement.dataset.ready = "";
}

function summarize(surprisal) {
  const known = [...surprisal].filter((stored) => stored !== UNKNOWN).map(bitsOf);
  const mean = known.reduce((sum, bits) => sum + bits, 0) / known.length;
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const parts = [count(N, "token"), count(source.layers.length, "layer")];
  if (hasAttention) parts.push(`${count(source.attention.n_head, "head")} each`);
  if (known.length) parts.push(`${mean.toFixed(2)} bits a token`, `perplexity ${Number((2 ** mean).toPrecision(3)).toLocaleString("en")}`);
  byId("summary").textContent = parts.join(" · ");
  byId("version").textContent = source.version;
}

/** The choice of a layer and a head. */
function pickers() {
  const option = (value, text) => element("option", { value }, text);
  const { n_head } = source.attention;
  byId("layer").append(...source.layers.map((layer, i) => option(i, layer)));
  byId("head").append(...Array.from({ length: n_head }, (_, i) => option(i, i)), option(-1, "mean of all"));
  for (const name of ["layer", "head"]) {
    byId(name).addEventListener("change", () => change({ [name]: Number(byId(name).value) }));
    watchers.push((parts) => name in parts && (byId(name).value = state[name]));
  }
}

/** Light or dark: as the system has it, until the button says otherwise. */
function themes(draw) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => (byId("theme").textContent = isDark() ? "Light" : "Dark");
  const redraw = () => {
    name();
    draw();
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", redraw);
  name();
}

begin();
