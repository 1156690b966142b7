const TYPING = "input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";
const INTERACTIVE = "a, button, input, select, textarea, label, summary";
let before = "";

function rowLinks(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>("table[data-rows] tbody a[data-row]")];
}

/** Moves the focus to the next or the previous row's link. False when there are no rows. */
function step(by: number): boolean {
  const links = rowLinks();
  if (!links.length) return false;
  const row = document.activeElement?.closest("tr");
  const at = links.findIndex((link) => link.closest("tr") === row);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1)]!;
  next.focus();
  next.closest("tr")!.scrollIntoView({ block: "nearest" });
  return true;
}

/** Acts on the last element that says a key: what is inside of something, such as a case of a comparison, stands behind it. */
function press(key: string): boolean {
  for (const element of [...document.querySelectorAll<HTMLElement>("[data-key]")].reverse()) {
    if (!element.dataset.key!.split("|").includes(key)) continue;
    if (element.matches("input, textarea, select")) element.focus();
    else element.click();
    return true;
  }
  return false;
}

function pick(): boolean {
  const box = document.activeElement?.closest("tr")?.querySelector<HTMLInputElement>("input[type=checkbox]");
  box?.click();
  return Boolean(box);
}

function acted(key: string): boolean {
  if (key === "?") {
    const help = document.getElementById("help") as HTMLDialogElement | null;
    if (help?.open) help.close();
    else help?.showModal();
    return Boolean(help);
  }
  if (press(before === "g" ? `g ${key}` : key)) return true;
  if (key === "j" || key === "ArrowDown") return step(1);
  if (key === "k" || key === "ArrowUp") return step(-1);
  return key === "x" && pick();
}

/** Whether an arrow key scrolls what has the focus, so that it is not for us. */
function scrolls(focused: HTMLElement, key: string): boolean {
  const across = key === "ArrowLeft" || key === "ArrowRight";
  for (let box: HTMLElement | null = focused; box && box.tagName !== "MAIN" && box !== document.body; box = box.parentElement) {
    const room = across ? box.scrollWidth - box.clientWidth : box.scrollHeight - box.clientHeight;
    const style = getComputedStyle(box);
    if (room > 1 && ["auto", "scroll"].includes(across ? style.overflowX : style.overflowY)) return true;
  }
  return false;
}

/** Closes the menus that are open, but for the one that something is in; whether there were any. */
function closeMenus(inside: HTMLElement | null): boolean {
  const open = [...document.querySelectorAll<HTMLDetailsElement>("details.menu[open]")].filter((menu) => !inside || !menu.contains(inside));
  for (const menu of open) {
    if (menu.contains(document.activeElement)) menu.querySelector("summary")?.focus();
    menu.removeAttribute("open");
  }
  return open.length > 0;
}

/** Elements say their keys in data-key; rows are walked by focus, so that Enter opens one as any link. */
export function keys(): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && target.matches("[data-ctrl-enter]")) {
      event.preventDefault();
      return (target as HTMLTextAreaElement).form?.requestSubmit();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.matches(TYPING)) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    if (event.key === "Escape" && closeMenus(null)) return event.preventDefault();
    if (event.key.startsWith("Arrow") && scrolls(target, event.key)) return;
    if (acted(event.key)) event.preventDefault();
    before = event.key;
  });
  document.addEventListener("click", (event) => {
    const target = event.target as HTMLElement;
    const opener = target.closest<HTMLElement>("[data-opens]");
    if (opener) (document.getElementById(opener.dataset.opens!) as HTMLDialogElement | null)?.showModal();
    const copies = target.closest<HTMLElement>("[data-copies]");
    if (copies) void navigator.clipboard.writeText(copies.dataset.copies || location.href).then(() => (copies.dataset.copied = "yes"));
    // A click beside a menu closes it, and does nothing else.
    const closed = closeMenus(target);
    const row = target.closest("table[data-rows] tbody tr");
    if (closed || !row || target.closest(INTERACTIVE) || getSelection()?.toString()) return;
    row.querySelector<HTMLElement>("a[data-row]")?.click();
  });
}
