/** What is polled rests while nobody looks: a hidden tab asks nothing. */
export function live(): void {
  document.addEventListener("htmx:beforeRequest", (event) => {
    const element = event.target as HTMLElement;
    if (document.hidden && element.matches("[data-poll]")) event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    const box = event.target as HTMLElement;
    if (box.matches("[data-submits]")) (box.closest("form") as HTMLFormElement | null)?.requestSubmit();
  });
}
