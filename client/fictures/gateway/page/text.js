/** The text panel. */

import { Panel, numberIn } from "./panel.js";
import { stream } from "./server.js";

// Over a shorter time, tokens that came in one packet would look impossibly fast.
const SHORTEST_MEASURE_MS = 100;
const NOTHING = "–";

const output = document.getElementById("text-output");
const shown = {
  tokens: document.getElementById("text-tokens"),
  rate: document.getElementById("text-rate"),
  first: document.getElementById("text-first"),
  finish: document.getElementById("text-finish"),
};

export function setUpText() {
  const panel = new Panel("text", async (signal) => {
    const fields = panel.form.elements;
    const body = JSON.stringify({
      prompt: fields.prompt.value,
      max_tokens: numberIn(fields.max_tokens),
      temperature: numberIn(fields.temperature),
      top_p: numberIn(fields.top_p),
    });
    const writer = new Writer();
    const meter = new Meter();
    panel.say("Generating…");
    try {
      for await (const event of stream("/api/v1/text/stream", body, signal)) {
        writer.write(event.text);
        meter.count(event.tokens_used);
        if (event.done) meter.finish(event.finish_reason ?? NOTHING);
      }
      panel.say(`Finished: ${meter.summary}.`);
    } catch (error) {
      meter.finish(signal.aborted ? "stopped" : "failed");
      throw error;
    } finally {
      writer.flush();
    }
  });
}

/** Writes pieces of text to the output, at most once a frame, and keeps its end in sight if it was in sight. */
class Writer {
  constructor() {
    this._text = document.createTextNode("");
    this._waiting = "";
    this._scheduled = false;
    output.replaceChildren(this._text);
  }

  write(piece) {
    this._waiting += piece;
    if (this._scheduled) return;
    this._scheduled = true;
    requestAnimationFrame(() => this.flush());
  }

  flush() {
    this._scheduled = false;
    if (!this._waiting) return;
    const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 8;
    this._text.appendData(this._waiting);
    this._waiting = "";
    if (atEnd) output.scrollTop = output.scrollHeight;
  }
}

/** Counts tokens and the time they take. */
class Meter {
  constructor() {
    this._began = performance.now();
    this._first = null;
    this._tokens = 0;
    for (const place of Object.values(shown)) place.textContent = NOTHING;
  }

  count(tokens) {
    const now = performance.now();
    if (tokens > 0 && !this._first) {
      this._first = { at: now, tokens };
      shown.first.textContent = duration(now - this._began);
    }
    this._tokens = tokens;
    shown.tokens.textContent = String(tokens);
    if (this._first) shown.rate.textContent = this._rate(now).toFixed(1);
  }

  finish(reason) {
    shown.finish.textContent = reason;
  }

  get summary() {
    return `${this._tokens} ${this._tokens === 1 ? "token" : "tokens"}, ${shown.finish.textContent}`;
  }

  /** Without the time to the first token, once there is more than that to measure. */
  _rate(now) {
    const since = now - this._first.at;
    const later = this._tokens - this._first.tokens;
    if (later && since >= SHORTEST_MEASURE_MS) return (later * 1000) / since;
    return (this._tokens * 1000) / Math.max(now - this._began, 1);
  }
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
