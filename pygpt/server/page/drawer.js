// A panel at the side: part of the page where there is room, in front of it where there is not.

export class Drawer {
  /** opener: the button that opens it. wide: the media query under which it is part of the page. behind: what cannot be
   *  reached while it is in front. */
  constructor(panel, opener, wide, behind) {
    this.panel = panel;
    this.opener = opener;
    this.behind = behind;
    this.role = panel.getAttribute("role");
    this.wide = matchMedia(wide);
    this.wide.addEventListener("change", () => this.#apply());
    opener.addEventListener("click", () => (this.open ? this.close() : this.show()));
    for (const closer of panel.querySelectorAll(".close")) closer.addEventListener("click", () => this.close());
    panel.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && this.close());
    this.#apply();
  }

  get open() {
    return this.panel.classList.contains("open");
  }

  show() {
    this.panel.classList.add("open");
    this.#apply();
    this.panel.querySelector("button, input, textarea, select")?.focus();
  }

  close() {
    if (!this.open) return;
    const inside = this.panel.contains(document.activeElement);
    this.panel.classList.remove("open");
    this.#apply();
    if (inside || document.activeElement === document.body) this.opener.focus();
  }

  /** Close it where it covers the page. */
  closeInFront() {
    if (!this.wide.matches) this.close();
  }

  #apply() {
    const inFront = this.open && !this.wide.matches;
    for (const element of this.behind) element.inert = inFront;
    this.panel.classList.toggle("in-front", inFront);
    this.panel.setAttribute("role", inFront ? "dialog" : this.role);
    if (inFront) this.panel.setAttribute("aria-modal", "true");
    else this.panel.removeAttribute("aria-modal");
    this.opener.setAttribute("aria-expanded", String(this.open));
  }
}
