// Light or dark, before anything is drawn: as the system has it, or as it was chosen here.

const NAME = "pygpt.theme";

const THEMES = ["system", "light", "dark"];

export function theme() {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME));
    return THEMES.includes(kept) ? kept : "system";
  } catch {
    return "system";
  }
}

export function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem(NAME, JSON.stringify(name));
  } catch {
    // It lasts as long as the page.
  }
}

if (theme() !== "system") document.documentElement.dataset.theme = theme();
