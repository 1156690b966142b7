/** A form that is replaced while somebody goes on typing in it keeps what was typed, and what was unfolded. */
export function typing(): void {
  let field: HTMLInputElement | null = null;
  let typed = "";
  let open: string[] = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.target as HTMLElement;
    const active = document.activeElement as HTMLInputElement | null;
    field = active?.id && target.contains(active) && active.matches("input:not([type=checkbox]):not([type=radio]), textarea") ? active : null;
    typed = field?.value ?? "";
    open = [...target.querySelectorAll<HTMLDetailsElement>("details[id][open]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    const now = field && (document.getElementById(field.id) as HTMLInputElement | null);
    if (!now || now === field || now.value === typed) return;
    now.value = typed;
    // The browser takes what a script wrote for no change of the user's: say it when the field is left.
    now.addEventListener("blur", () => now.dispatchEvent(new Event("change", { bubbles: true })), { once: true });
  });
}
