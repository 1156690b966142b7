/** A file may be dropped anywhere on a form with data-drop; it goes into the form's file field. */
export function uploads(): void {
  const zone = (event: Event) => (event.target as HTMLElement).closest?.<HTMLFormElement>("form[data-drop]");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      const form = zone(event);
      if (!form) return;
      event.preventDefault();
      form.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => zone(event)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    const form = zone(event);
    const files = (event as DragEvent).dataTransfer?.files;
    if (!form || !files?.length) return;
    event.preventDefault();
    form.classList.remove("over");
    const field = form.querySelector<HTMLInputElement>("input[type=file]")!;
    field.files = files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("change", (event) => {
    const field = event.target as HTMLInputElement;
    const form = field.type === "file" ? field.closest<HTMLFormElement>("form[data-drop]") : null;
    const file = field.files?.[0];
    if (!form || !file) return;
    form.querySelector("[data-file]")!.textContent = `${file.name}, ${(file.size / 1024).toLocaleString("en", { maximumFractionDigits: 1 })} KB`;
    const name = form.querySelector<HTMLInputElement>("input[name=name]");
    if (name && !name.value) name.value = file.name.replace(/\.[^.]+$/, "").replace(/[@#/\\]/g, "-");
  });
}
