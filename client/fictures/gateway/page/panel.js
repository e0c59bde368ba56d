/** A form whose answer streams in: one run at a time, started and stopped by buttons or keys. */

import { Failure } from "./server.js";

/**
 * @callback Work
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */

export class Panel {
  /**
   * @param {string} name the section's id, and what its parts' ids begin with
   * @param {Work} work what a run does
   */
  constructor(name, work) {
    const part = (suffix) => document.getElementById(`${name}-${suffix}`);
    this.form = part("form");
    this._section = document.getElementById(name);
    this._start = this.form.querySelector("button[type=submit]");
    this._stop = part("stop");
    this._error = part("error");
    this._status = part("status");
    this._work = work;
    this._run = null;
    this._listen();
  }

  /** Announce a milestone. */
  say(text) {
    this._status.textContent = text;
  }

  _listen() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._begin();
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this._begin();
    });
    this.form.addEventListener("input", (event) => unmark(event.target));
    this._stop.addEventListener("click", () => this._run?.abort());
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      // Escape within the other panel is meant for that one.
      const within = event.target.closest?.(".panel");
      if (!within || within === this._section) this._run?.abort();
    });
  }

  async _begin() {
    if (this._run) return;
    const run = new AbortController();
    this._run = run;
    this._error.replaceChildren();
    for (const field of this.form.elements) unmark(field);
    this._setRunning(true);
    try {
      await this._work(run.signal);
    } catch (error) {
      if (run.signal.aborted) {
        this.say("Stopped.");
      } else {
        this.say("Failed.");
        this._showError(error);
      }
    } finally {
      this._run = null;
      this._setRunning(false);
    }
  }

  _setRunning(running) {
    // A button that is disabled loses the keyboard's focus: it goes to the one that can now be used.
    const [used, next] = running ? [this._start, this._stop] : [this._stop, this._start];
    const moves = document.activeElement === used;
    next.disabled = false;
    if (moves) (this.form.querySelector("[aria-invalid]") ?? next).focus();
    used.disabled = true;
  }

  _showError(error) {
    const failure = error instanceof Failure ? error : new Failure(`This page failed: ${error.message}`);
    if (failure !== error) console.error(error);
    this._error.append(paragraph(failure.message));
    if (failure.fields.length) {
      const list = document.createElement("ul");
      list.append(...failure.fields.map((wrong) => this._mark(wrong)));
      this._error.append(list);
    }
    if (failure.advice) this._error.append(paragraph(failure.advice));
    if (failure.status === 401) {
      const link = document.createElement("a");
      link.href = "#api-key";
      link.textContent = "Enter an API key";
      this._error.append(paragraph(link, " at the top of the page."));
    }
  }

  /** Mark a field as wrong; returns the item of the list of errors that says so. */
  _mark({ name, message }) {
    const field = this.form.elements.namedItem(name);
    if (field) {
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-errormessage", this._error.id);
    }
    const item = document.createElement("li");
    const called = field?.labels[0].textContent ?? name;
    item.textContent = called ? `${called}: ${message}` : message;
    return item;
  }
}

/** A field's number; null, which the server refuses by the field's name, if there is none. */
export function numberIn(field) {
  return field.value.trim() === "" ? null : Number(field.value);
}

function unmark(field) {
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-errormessage");
}

function paragraph(...content) {
  const element = document.createElement("p");
  element.append(...content);
  return element;
}
