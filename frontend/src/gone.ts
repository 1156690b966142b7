const AGAIN_MS = 3000;

/** While the Studio does not answer, one banner says so; it goes when the Studio is there again. */
export function gone(): void {
  const banner = document.getElementById("gone");
  if (!banner) return;
  let timer = 0;
  const back = () => {
    window.clearTimeout(timer);
    timer = 0;
    banner.hidden = true;
  };
  const ask = () => {
    fetch("/api/v1/health", { cache: "no-store" }).then(back, () => (timer = window.setTimeout(ask, AGAIN_MS)));
  };
  document.addEventListener("htmx:sendError", () => {
    banner.hidden = false;
    if (!timer) timer = window.setTimeout(ask, AGAIN_MS);
  });
  document.addEventListener("htmx:afterOnLoad", () => timer && back());
}
