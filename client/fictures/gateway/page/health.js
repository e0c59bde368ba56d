/** The line that tells of the server's health. */

import { Failure, send } from "./server.js";

const EVERY_MS = 15_000;
const PATIENCE_MS = 10_000;

const line = document.getElementById("health");

/** Ask regularly while the page can be seen. Returns a function that asks at once. */
export function watchHealth() {
  let asking = false;
  async function refresh() {
    if (asking || document.hidden) return;
    asking = true;
    show(await health());
    asking = false;
  }
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
  return refresh;
}

/** @returns {Promise<{state: "healthy" | "unhealthy", text: string}>} */
async function health() {
  try {
    const response = await send("/health", { signal: AbortSignal.timeout(PATIENCE_MS) });
    const body = await response.json();
    if (typeof body.status !== "string") return { state: "unhealthy", text: body.detail ?? `Status ${response.status}` };
    const models = Object.entries(body.models ?? {}).map(([name, state]) => `${name} ${state}`);
    const said = body.status === "healthy" ? "Healthy" : `Unhealthy: ${body.reason ?? "the server does not say why"}`;
    return { state: body.status, text: [said, ...models].join(" · ") };
  } catch (error) {
    const text = error instanceof Failure ? error.message : "The server gave no answer about its health.";
    return { state: "unhealthy", text };
  }
}

function show({ state, text }) {
  // Written anew, the same words would be read out anew.
  if (line.textContent === text) return;
  line.dataset.state = state;
  line.textContent = text;
}
