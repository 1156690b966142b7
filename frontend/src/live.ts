// Shorter than the pauses of most who type: a request that a newer one overtakes is dropped, here and on the server.
const TYPED_MS = 60;

/** Forms that ask as one types or chooses; what is polled rests while nobody looks. */
export function live(): void {
  document.addEventListener("htmx:beforeRequest", (event) => {
    const element = event.target as HTMLElement;
    if (document.hidden && element.matches("[data-poll]")) event.preventDefault();
  });
  // Addresses say only what is chosen.
  document.addEventListener("htmx:configRequest", (event) => {
    const { parameters } = (event as CustomEvent).detail as { parameters: Record<string, unknown> };
    for (const name of Object.keys(parameters)) if (parameters[name] === "") delete parameters[name];
    const boxes = [...document.querySelectorAll<HTMLInputElement>("input[data-usual]")];
    if (boxes.length && boxes.every((box) => box.checked === (box.dataset.usual === "yes"))) delete parameters["col"];
  });
  document.addEventListener("htmx:pushedIntoHistory", shown);
  let timer = 0;
  document.addEventListener("input", (event) => {
    const field = event.target as HTMLInputElement;
    if (!field.matches("[data-submits]") || !field.form) return;
    clearTimeout(timer);
    // The form may be another by then: the answer to what was typed before replaces it and keeps the field.
    timer = window.setTimeout(() => field.form?.isConnected && field.form.requestSubmit(), field.type === "search" ? TYPED_MS : 0);
  });
}

/** A field that stands outside of what was replaced shows what the address says. */
function shown(): void {
  const now = new URLSearchParams(location.search);
  for (const field of document.querySelectorAll<HTMLInputElement>("form[data-state] input[type=search]")) {
    if (field !== document.activeElement) field.value = now.get(field.name) ?? "";
  }
}
