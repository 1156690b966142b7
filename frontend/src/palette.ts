/** Ctrl-K or ⌘K opens a box to go anywhere; arrows walk what is found, Enter opens it. */
export function palette(): void {
  const dialog = document.getElementById("palette") as HTMLDialogElement | null;
  const field = document.getElementById("go-q") as HTMLInputElement | null;
  if (!dialog || !field) return;
  const links = () => [...dialog.querySelectorAll<HTMLAnchorElement>("#found a")];
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (dialog.open) return dialog.close();
      if (document.querySelector("dialog[open]")) return;
      dialog.showModal();
      field.value = "";
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
  dialog.addEventListener("keydown", (event) => {
    const found = links();
    const at = found.indexOf(document.activeElement as HTMLAnchorElement);
    if (event.key === "ArrowDown") found[Math.min(at + 1, found.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (at > 0 ? found[at - 1]! : field).focus();
    else if (event.key === "Enter" && document.activeElement === field) found[0]?.click();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
