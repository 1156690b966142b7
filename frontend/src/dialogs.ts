/** Forms with data-confirm ask first; the dialog's button repeats what will happen. */
export function confirmation(): void {
  const dialog = document.getElementById("confirm") as HTMLDialogElement | null;
  if (!dialog) return;
  let waiting: HTMLFormElement | null = null;
  let sure: HTMLFormElement | null = null;
  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target as HTMLFormElement;
      if (!form.dataset.confirm || sure === form) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      waiting = form;
      dialog.querySelector("[data-text]")!.textContent = form.dataset.confirm;
      dialog.querySelector("[data-yes]")!.textContent = form.dataset.confirmYes ?? "Go on";
      dialog.showModal();
    },
    true,
  );
  dialog.addEventListener("close", () => {
    const asked = waiting;
    waiting = null;
    if (dialog.returnValue !== "yes" || !asked) return;
    // The part of the page that it was in may have been replaced meanwhile.
    const form = asked.isConnected ? asked : [...document.forms].find((other) => other.action === asked.action && other.dataset.confirm);
    if (!form) return;
    sure = form;
    form.requestSubmit();
    sure = null;
  });
}
