type Field = HTMLInputElement | HTMLTextAreaElement;
interface Kept {
  field: Field | null;
  typed: string;
  open: string[];
  /** The choices in what is unfolded: pairs of an id and a value. */
  chosen: [string, string][];
  /** What had the focus, as a selector. */
  focused: string | null;
}

const TEXT = "input:not([type=checkbox]):not([type=radio]), textarea";
const NOTHING: Kept = { field: null, typed: "", open: [], chosen: [], focused: null };
const kept = new Map<string, Kept>();

/** What somebody does in a part of the page while it is replaced stays: what is typed, what is unfolded, and the focus. */
export function keeping(): void {
  document.addEventListener("htmx:beforeSwap", (event) => note(event.target as HTMLElement));
  document.addEventListener("htmx:afterSwap", (event) => restore((event as CustomEvent).detail.target as HTMLElement | undefined));
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { detail } = event as CustomEvent<{ target: HTMLElement; fragment: ParentNode; shouldSwap: boolean }>;
    const next = detail.fragment.querySelector<HTMLElement>(`#${CSS.escape(detail.target.id)}`);
    // A part that says what it is of, and is of the same as before, is left as it is.
    if (detail.target.dataset.of !== undefined && detail.target.dataset.of === next?.dataset.of) detail.shouldSwap = false;
    else note(detail.target);
  });
  document.addEventListener("htmx:oobAfterSwap", (event) => restore((event as CustomEvent).detail.target as HTMLElement));
}

function note(target: HTMLElement): void {
  const active = document.activeElement as Field | null;
  const field = active?.id && target.contains(active) && active.matches(TEXT) ? active : null;
  const open = [...target.querySelectorAll<HTMLDetailsElement>("details[id][open]")].map((details) => details.id);
  const selects = target.querySelectorAll<HTMLSelectElement>("details[open] select[id]");
  const chosen = [...selects].map((select): [string, string] => [select.id, select.value]);
  const focused = active && target.contains(active) ? selectorOf(active) : null;
  kept.set(target.id, { field, typed: field?.value ?? "", open, chosen, focused });
}

function selectorOf(element: HTMLElement): string | null {
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.matches("details[id] > summary")) return `#${CSS.escape(element.parentElement!.id)} > summary`;
  const address = element.getAttribute("href");
  return address === null ? null : `a[href="${CSS.escape(address)}"]`;
}

function restore(target: HTMLElement | undefined): void {
  if (!target) return; // going back in history replaces the whole page
  const { field, typed, open, chosen, focused } = kept.get(target.id) ?? NOTHING;
  kept.delete(target.id);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of chosen) {
    const select = document.getElementById(id) as HTMLSelectElement | null;
    if (select && !select.value) select.value = value;
  }
  if (focused && document.activeElement === document.body) document.querySelector<HTMLElement>(focused)?.focus({ preventScroll: true });
  const now = field && (document.getElementById(field.id) as Field | null);
  if (!now || now === field || now.value === typed) return;
  now.value = typed;
  // The browser takes what a script wrote for no change of the user's: say it when the field is left.
  now.addEventListener("blur", () => now.dispatchEvent(new Event("change", { bubbles: true })), { once: true });
}
