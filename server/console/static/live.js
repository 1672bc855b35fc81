// Keeps pages about rounds of training fresh: every two seconds the page is fetched again, and each part that carries
// data-live is replaced by its new self when it has changed. The server renders; this file only swaps.
"use strict";
const PERIOD_MS = 2000;
const parts = () => document.querySelectorAll("[data-live]");

async function refresh() {
  const answer = await fetch(location.pathname, { credentials: "same-origin", redirect: "manual" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts()) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || next.outerHTML === part.dataset.shown || part.contains(document.activeElement)) continue;
    const shown = next.outerHTML;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    [...next.querySelectorAll("details")].forEach((one, i) => { if (i < open.length) one.open = open[i]; });
    part.replaceWith(document.importNode(next, true));
    document.querySelector(`[data-live="${part.dataset.live}"]`).dataset.shown = shown;
  }
}

if (parts().length) {
  setInterval(() => { if (!document.hidden) refresh().catch(() => {}); }, PERIOD_MS);
}
