const NEXT: Record<string, string> = { system: "light", light: "dark", dark: "system" };

function current(): string {
  return document.documentElement.dataset.theme ?? "system";
}

function show(button: HTMLElement): void {
  const name = current();
  button.setAttribute("aria-label", `Theme: ${name}`);
  button.title = `Theme: ${name}. Click for ${NEXT[name]}.`;
  button.dataset.shows = name;
}

/** The button goes round: as the system has it, light, dark. */
export function themeButton(): void {
  const button = document.getElementById("theme");
  if (!button) return;
  show(button);
  button.addEventListener("click", () => {
    const next = NEXT[current()] ?? "system";
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (next === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", next);
    } catch {
      // Without storage it holds for this page.
    }
    show(button);
  });
}
