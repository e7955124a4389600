// The service's wire: questions that are safe to send again, and event streams that go on where they broke off.
// Knows nothing of any page.

const STALLED_MS = 15000; // the service is never silent for more than 5 s: no bytes for so long is a dead connection
const FIRST_PAUSE_MS = 500; // doubled with each try
const MOST_TRIES = 6; // without any progress, half a minute together; then it is for the customer to say

/** An error that can be explained: the service's envelope, or "network" and "broken_off" of our own. */
export class ChatError extends Error {
  constructor({ code, message = "", requestId = "", status = 0 }) {
    super(message || code);
    Object.assign(this, { code, publicMessage: message, requestId, status });
  }

  /** Whether the turn may be running or answered all the same: then the same request is sent again, not a new one. */
  get isUncertain() {
    return this.code === "network" || this.code === "broken_off";
  }
}

/** Unguessable; `crypto.randomUUID` is missing on pages without TLS. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Service {
  /** base: address of the service without a slash at its end. key: an API key, or empty. */
  constructor(base, key) {
    this.base = base;
    this.key = key;
  }

  /**
   * Yields {name, data} for each event of one turn, each of them once, however often the connection breaks; and
   * {name: "paused"} whenever it has. Returns after `done`, throws ChatError for anything else.
   * body: of POST /v1/chat. idempotencyKey: the same for each try of one question.
   */
  async *ask(body, { idempotencyKey, signal }) {
    const place = { turnId: "", last: "", requestId: "" }; // how far the turn has come
    for (let tries = 0; ; tries += 1) {
      try {
        for await (const { id, name, data } of this.#connection(place, body, idempotencyKey, signal)) {
          tries = 0;
          if (name === "error") throw refusalOf(data);
          if (name === "meta") place.turnId = data.turn_id;
          if (id) place.last = id;
          yield { name, data };
          if (name === "done") return;
        }
        throw new ChatError({ code: "broken_off", requestId: place.requestId });
      } catch (error) {
        if (signal.aborted || !(error instanceof ChatError) || !error.isUncertain) throw error;
        const canGoOn = place.last || !place.turnId; // an event without a number cannot be named
        if (!canGoOn || tries >= MOST_TRIES) throw error;
        yield { name: "paused", data: {} };
        await pause(FIRST_PAUSE_MS * 2 ** tries * (0.75 + Math.random() / 2), signal);
      }
    }
  }

  /** Ends a turn that nobody wants any longer; it would end by itself, only later. */
  async cancel(turnId) {
    await this.#send("POST", "/v1/cancel", { body: { turn_id: turnId }, keepalive: true });
  }

  /** rating: "up" or "down". Throws ChatError. */
  async rate(turnId, rating) {
    await this.#send("POST", "/v1/feedback", { body: { turn_id: turnId, rating } });
  }

  async *#connection(place, body, idempotencyKey, signal) {
    const response = place.last
      ? await this.#send("GET", `/v1/turns/${place.turnId}/events`, { headers: { "last-event-id": place.last }, signal })
      : await this.#send("POST", "/v1/chat", { headers: { "idempotency-key": idempotencyKey }, body, signal });
    place.requestId = response.headers.get("x-request-id") ?? "";
    if (response.body && response.status !== 204) yield* events(response.body, place.requestId, signal);
  }

  async #send(method, path, { headers = {}, body, ...options }) {
    Object.assign(options, { method, headers: { ...headers } });
    if (this.key) options.headers.authorization = `Bearer ${this.key}`;
    if (body) {
      options.headers["content-type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    let response;
    try {
      response = await fetch(this.base + path, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ChatError({ code: "network" });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

function refusalOf({ code, message, request_id: requestId }, status = 0) {
  return new ChatError({ code, message, requestId, status });
}

async function refusal(response) {
  try {
    return refusalOf((await response.json()).error, response.status);
  } catch {
    // Not our envelope: a proxy in between answered, for a service that it does not reach.
    const requestId = response.headers.get("x-request-id") ?? "";
    const code = [502, 503, 504].includes(response.status) ? "network" : "internal_error";
    return new ChatError({ code, requestId, status: response.status });
  }
}

/** Ends early when the network is back. */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const settle = (end, value) => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      signal.removeEventListener("abort", stop);
      end(value);
    };
    const wake = () => settle(resolve);
    const stop = () => settle(reject, signal.reason);
    const timer = setTimeout(wake, ms);
    addEventListener("online", wake);
    signal.addEventListener("abort", stop);
  });
}

async function* events(body, requestId, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    while (true) {
      const { value, done } = await readInTime(reader);
      if (done) return;
      const blocks = (pending + value).split("\n\n");
      pending = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ChatError({ code: "broken_off", requestId });
  } finally {
    reader.cancel().catch(() => {}); // already closed or broken: nothing is left to tell
  }
}

async function readInTime(reader) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no bytes")), STALLED_MS);
  });
  try {
    return await Promise.race([reader.read(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** One block of an event stream; null for comments, which only keep the connection alive. */
function parse(block) {
  let name = "message";
  let id = "";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("id:")) id = line.slice(3).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { id, name, data: JSON.parse(data.join("\n")) } : null;
}
