const STAYS_MS = 6000;
const COOKIE = "pl_toast";

/** Show a message for some seconds. Text only: it may hold anything. */
export function toast(text: string, kind: "done" | "problem" = "done"): void {
  const box = document.getElementById("toasts");
  if (!box) return;
  const line = document.createElement("p");
  line.className = `toast ${kind}`;
  line.textContent = text;
  box.append(line);
  setTimeout(() => line.remove(), kind === "problem" ? STAYS_MS * 2 : STAYS_MS);
}

/** What the server said with a redirect, or in an answer's HX-Trigger, or did not say at all. */
export function toasts(): void {
  const sent = document.cookie.split("; ").find((c) => c.startsWith(`${COOKIE}=`));
  if (sent) {
    document.cookie = `${COOKIE}=; Max-Age=0; Path=/; SameSite=Lax`;
    const [kind, text] = decodeURIComponent(sent.slice(COOKIE.length + 1)).split("|", 2);
    if (text) toast(text, kind === "problem" ? "problem" : "done");
  }
  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = (event as CustomEvent).detail as { xhr: XMLHttpRequest };
    toast(explained(xhr), "problem");
  });
  document.addEventListener("htmx:sendError", () => toast("The Studio does not answer. Is it still running?", "problem"));
}

function explained(xhr: XMLHttpRequest): string {
  const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
  return page.querySelector("[data-problem]")?.textContent?.trim() || `The Studio answered ${xhr.status}.`;
}
