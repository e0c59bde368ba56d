/** Calls to the server, and what is said when they fail. */

import { events } from "./events.js";
import { apiKey, showKeyField } from "./key.js";

const UNREACHABLE = "The server could not be reached. It may be down, or the network is.";
const BROKEN_OFF = "The connection broke off before the answer was complete.";
const CUT_SHORT = "The answer ended before it was complete.";

/** An error to show to whoever uses the page. */
export class Failure extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, fields?: {name: string, message: string}[], advice?: string}} more
   *   `fields`: what is wrong with which of the request's fields.
   */
  constructor(message, { status, fields = [], advice } = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
    this.advice = advice;
  }
}

/**
 * A response, of whatever status.
 * @throws {Failure} when none came
 * @throws {DOMException} when the caller's signal aborted the call
 */
export async function send(path, { headers = {}, ...options } = {}) {
  const key = apiKey();
  if (/[^\x21-\x7e]/.test(key)) throw new Failure("The API key contains characters that cannot be sent.");
  if (key) headers = { ...headers, Authorization: `Bearer ${key}` };
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(UNREACHABLE);
  }
  if (response.status === 401) showKeyField();
  return response;
}

/**
 * The events that answer a request; the last has `done`.
 * @param {string} path
 * @param {string} body JSON
 * @param {AbortSignal} signal
 * @throws {Failure} the request was refused, or the stream failed or ended too early
 */
export async function* stream(path, body, signal) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  const response = await send(path, { method: "POST", headers, body, signal });
  if (!response.ok) throw await refusal(response, signal);
  const reader = response.body.getReader();
  let complete = false;
  try {
    for await (const event of events(reader)) {
      complete = event.done === true;
      if (event.error !== undefined) throw new Failure(event.error, { status: event.status });
      yield event;
      if (complete) return;
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    if (error instanceof SyntaxError) throw new Failure(`The server sent what is not JSON: ${error.message}`);
    throw new Failure(BROKEN_OFF);
  } finally {
    // After its last event the server still closes the stream: cancelled before that, it would count a lost client.
    if (complete) drain(reader);
    else reader.cancel().catch(() => {});
  }
  throw new Failure(CUT_SHORT);
}

async function drain(reader) {
  try {
    while (!(await reader.read()).done);
  } catch {
    // Everything that matters has come.
  }
}

/** The failure that a response with an error status tells of. */
async function refusal(response, signal) {
  let detail;
  try {
    ({ detail } = await response.json());
  } catch (error) {
    if (signal.aborted) throw error;
  }
  const { status } = response;
  if (Array.isArray(detail)) {
    const fields = detail.map(({ loc, msg }) => ({ name: loc.slice(1).join("."), message: msg }));
    return new Failure(`The server did not accept this (${status}).`, { status, fields });
  }
  const message = typeof detail === "string" ? detail : `The server answered ${status} ${response.statusText}`.trim();
  return new Failure(message, { status, advice: retryAdvice(response, message) });
}

function retryAdvice(response, message) {
  const seconds = response.headers.get("Retry-After") ?? "";
  if (!/^\d+$/.test(seconds) || message.includes("try again in")) return undefined;
  return `Try again in ${seconds} s.`;
}
