// Shorter than the pauses of most who type: a request that a newer one overtakes is dropped, here and on the server.
const TYPED_MS = 60;
let typedInto: Element | null = null;
let pressed = false;

/** Whether somebody is about to click, to decide or to choose something there: what they act on must not go away. */
function actsOn(element: HTMLElement): boolean {
  return pressed || Boolean(document.querySelector("dialog[open]") || element.querySelector("details[open]"));
}

/** Forms that ask as one types or chooses; what is polled rests while nobody looks. */
export function live(): void {
  document.addEventListener("htmx:beforeRequest", (event) => {
    const element = event.target as HTMLElement;
    if (element.matches("[data-poll]") && (document.hidden || actsOn(element))) event.preventDefault();
  });
  // What was asked for before somebody began to act is left out, too: the next answer says the same.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { detail } = event as CustomEvent<{ requestConfig: { elt: HTMLElement }; shouldSwap: boolean }>;
    const { elt } = detail.requestConfig;
    if (elt.matches("[data-poll]") && actsOn(elt)) detail.shouldSwap = false;
  });
  // A button that is replaced between press and release is not clicked. Who lets go outside the window is seen when they are back.
  document.addEventListener("pointerdown", () => (pressed = true), true);
  for (const name of ["pointerup", "pointercancel", "keydown"]) document.addEventListener(name, () => setTimeout(() => (pressed = false)), true);
  document.addEventListener("pointermove", (event) => (pressed &&= event.buttons > 0), true);
  // Addresses say only what is chosen.
  document.addEventListener("htmx:configRequest", (event) => {
    const { parameters } = (event as CustomEvent).detail as { parameters: Record<string, unknown> };
    for (const name of Object.keys(parameters)) if (parameters[name] === "") delete parameters[name];
    const boxes = [...document.querySelectorAll<HTMLInputElement>("input[data-usual]")];
    if (boxes.length && boxes.every((box) => box.checked === (box.dataset.usual === "yes"))) delete parameters["col"];
  });
  document.addEventListener("htmx:pushedIntoHistory", () => shown(document.activeElement));
  document.addEventListener("htmx:historyRestore", () => shown(null));
  document.addEventListener("htmx:beforeHistoryUpdate", (event) => {
    const { history } = (event as CustomEvent<{ history: { type: string } }>).detail;
    // What is typed into a search is one step, however many questions it asked; with another field or a link the next one begins.
    const search = document.activeElement?.matches("form[data-state] input[type=search]") ? document.activeElement : null;
    if (search && search === typedInto) history.type = "replace";
    typedInto = search;
  });
  const asked = new WeakMap<XMLHttpRequest, string>();
  document.addEventListener("htmx:beforeRequest", (event) => {
    const form = event.target as HTMLFormElement;
    if (form.matches("form[data-choices]")) asked.set((event as CustomEvent).detail.xhr as XMLHttpRequest, choices(form));
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { detail } = event as CustomEvent<{ xhr: XMLHttpRequest; requestConfig: { elt: HTMLFormElement }; shouldSwap: boolean }>;
    const then = asked.get(detail.xhr);
    // Somebody chose something else meanwhile: the answer to that is on its way.
    if (then !== undefined && then !== choices(detail.requestConfig.elt)) detail.shouldSwap = false;
  });
  let timer = 0;
  document.addEventListener("input", (event) => {
    const field = event.target as HTMLInputElement;
    if (!field.matches("[data-submits]") || !field.form) return;
    clearTimeout(timer);
    // At once: an answer that is on its way must not undo a choice.
    if (field.type !== "search") return field.form.requestSubmit();
    // The form may be another by then: the answer to what was typed before replaces it and keeps the field.
    timer = window.setTimeout(() => field.form?.isConnected && field.form.requestSubmit(), TYPED_MS);
  });
}

/** What is chosen in a form, without what is typed. */
function choices(form: HTMLFormElement): string {
  const fields = [...form.querySelectorAll<HTMLSelectElement | HTMLInputElement>("select, input[type=checkbox]:checked")];
  return fields.map((field) => `${field.name}=${field.value}`).join("&");
}

/** A field that stands outside of what was replaced shows what the address says; but for one that somebody types into. */
function shown(typing: Element | null): void {
  const now = new URLSearchParams(location.search);
  for (const field of document.querySelectorAll<HTMLInputElement>("form[data-state] input[type=search]")) {
    if (field !== typing) field.value = now.get(field.name) ?? "";
  }
}
