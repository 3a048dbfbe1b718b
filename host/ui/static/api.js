// What the server is asked. The token came behind the # of the address; it is kept for this tab alone.

const KEY = "hector-token";

/** Takes the token out of the address, where it could be read over a shoulder. */
export function takeToken() {
  const match = /^#token=([\w-]+)$/.exec(location.hash);
  if (!match) return;
  sessionStorage.setItem(KEY, match[1]);
  history.replaceState(null, "", location.pathname + "#/plugins");
}

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body, signal) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method: body === undefined ? "GET" : "POST", headers, signal, credentials: "omit", cache: "no-store" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch("api/" + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The host does not answer. Is `serve` still running?", 0);
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // It is not from our server, or was cut off.
  }
  throw new Refused(message, response.status);
}

export const get = async (path, signal) => (await ask(path, undefined, signal)).json();
export const post = async (path, body, signal) => (await ask(path, body, signal)).json();

/** The objects of an answer that comes line by line; one with `error` is thrown. */
export async function* lines(path, body, signal) {
  const response = await ask(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  try {
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Refused("The connection to the host broke off.", 0);
      }
      if (piece.done) return;
      const ended = piece.value.split("\n");
      for (const end of ended.slice(0, -1)) {
        const text = parts.join("") + end;
        parts = [];
        if (!text) continue;
        const item = JSON.parse(text);
        if (item.error !== undefined) throw new Refused(item.error, 502);
        yield item;
      }
      parts.push(ended.at(-1));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const part = encodeURIComponent;
