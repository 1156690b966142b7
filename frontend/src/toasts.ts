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

/** What the server said with a redirect, or why it refused what htmx asked for. */
export function toasts(): void {
  const sent = document.cookie.split("; ").find((c) => c.startsWith(`${COOKIE}=`));
  if (sent) {
    document.cookie = `${COOKIE}=; Max-Age=0; Path=/; SameSite=Lax`;
    const said = decodeURIComponent(sent.slice(COOKIE.length + 1));
    const at = said.indexOf("|");
    toast(said.slice(at + 1), said.startsWith("problem|") ? "problem" : "done");
  }
  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = (event as CustomEvent).detail as { xhr: XMLHttpRequest };
    toast(problemIn(xhr.responseText) ?? `The Studio answered ${xhr.status}.`, "problem");
  });
}

/** The detail of an answer in the shape of RFC 9457, or null. */
export function problemIn(text: string): string | null {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    return typeof detail === "string" ? detail : null;
  } catch {
    return null;
  }
}
