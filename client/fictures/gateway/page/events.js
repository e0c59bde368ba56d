/** Server-sent events from a response's body: EventSource cannot POST. */

/**
 * The objects that a stream's `data:` lines hold as JSON.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 */
export async function* events(reader) {
  let data = [];
  for await (const line of lines(reader)) {
    if (line === "") {
      if (data.length) yield parse(data.join("\n"));
      data = [];
    } else if (line.startsWith("data:")) {
      data.push(line.slice(line[5] === " " ? 6 : 5));
    }
  }
}

/** An event's content. Its seed stays the text that was sent: as a number it would lose digits above 2^53. */
export function parse(json) {
  // Within a JSON string the quotes would be escaped, so this finds a key only.
  return JSON.parse(json.replace(/"seed":\s*(\d+)/, '"seed":"$1"'));
}

/** Lines ending with \n, \r\n or \r. What follows the last end is no line. */
async function* lines(reader) {
  const decoder = new TextDecoder();
  // An image is one line of megabytes in many chunks: each is searched once, and they are joined once.
  let unfinished = [];
  let afterReturn = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    let text = decoder.decode(value, { stream: true });
    if (!text) continue;
    // The second half of a \r\n that came in two chunks ends no line of its own.
    if (afterReturn && text.startsWith("\n")) text = text.slice(1);
    afterReturn = text.endsWith("\r");
    const [end, ...rest] = text.split(/\r\n|\r|\n/);
    unfinished.push(end);
    for (const start of rest) {
      yield unfinished.join("");
      unfinished = [start];
    }
  }
}
