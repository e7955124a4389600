// POST /v1/chat and its event stream, which goes on after a break. Knows nothing of the page.

/** An error that the page can explain: the service's envelope, or "network" and "broken_off" of our own. */
export class ChatError extends Error {
  constructor({ code, message = "", requestId = "", status = 0 }) {
    super(message || code);
    Object.assign(this, { code, publicMessage: message, requestId, status });
  }
}

const PAUSES_MS = [300, 1000, 2000, 4000, 8000, 15000]; // before each try to go on; the service keeps a turn some minutes

/**
 * Yields {name, data} for each event of one turn; returns after `done`, throws ChatError for anything else.
 *
 * Where the connection breaks it comes back with the number of the last event, and goes on from there. The question is
 * sent under one key, so that it is answered once however often it is sent.
 */
export async function* ask({ messages, conversationId, key, signal }) {
  const turn = { id: "", lastEvent: 0, requestId: "" };
  const question = { messages, conversationId, key, signal, idempotencyKey: newKey() };
  for (let tries = 0; ; tries += 1) {
    const before = turn.lastEvent;
    try {
      const response = turn.id ? await resume(turn, key, signal) : await post(question);
      if (response.status === 204) return; // all was said
      if (!response.ok) throw await refusal(response);
      turn.requestId = response.headers.get("x-request-id") ?? "";
      for await (const event of events(response.body, turn, signal)) {
        yield event;
        if (event.name === "done") return;
      }
      throw new ChatError({ code: "broken_off", requestId: turn.requestId });
    } catch (error) {
      if (turn.lastEvent > before) tries = 0;
      const isCut = error instanceof ChatError && ["network", "broken_off"].includes(error.code);
      if (!isCut || tries >= PAUSES_MS.length) throw error;
      await pause(PAUSES_MS[tries], signal);
    }
  }
}

/** Ends a turn that nobody waits for any more. */
export function cancel(turnId, key) {
  const options = { method: "POST", headers: headersOf(key), body: JSON.stringify({ turn_id: turnId }), keepalive: true };
  fetch("/v1/cancel", options).catch(() => {}); // the service ends by itself what nobody reads
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function headersOf(key) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  return headers;
}

/** Until the time is over, or the browser says that the network is back. */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle) => () => {
      clearTimeout(timer);
      window.removeEventListener("online", again);
      signal.removeEventListener("abort", stopped);
      settle();
    };
    const again = end(resolve);
    const stopped = end(() => reject(signal.reason));
    const timer = setTimeout(again, ms);
    window.addEventListener("online", again);
    signal.addEventListener("abort", stopped);
  });
}

function post({ messages, conversationId, key, signal, idempotencyKey }) {
  const body = { messages };
  if (conversationId) body.conversation_id = conversationId;
  const headers = { ...headersOf(key), "idempotency-key": idempotencyKey };
  return fetched("/v1/chat", { method: "POST", headers, body: JSON.stringify(body), signal });
}

function resume(turn, key, signal) {
  const headers = { ...headersOf(key), "last-event-id": String(turn.lastEvent) };
  return fetched(`/v1/turns/${turn.id}/events`, { headers, signal });
}

async function fetched(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (options.signal.aborted) throw error;
    throw new ChatError({ code: "network" });
  }
}

async function refusal(response) {
  const requestId = response.headers.get("x-request-id") ?? "";
  try {
    const { error } = await response.json();
    return new ChatError({ code: error.code, message: error.message, requestId: error.request_id, status: response.status });
  } catch {
    // Not our envelope: a proxy in between answered.
    return new ChatError({ code: "internal_error", requestId, status: response.status });
  }
}

/** The events of one connection; `turn` is kept up to date with how far it came. */
async function* events(body, turn, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (pending + value).split("\n\n");
      pending = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (!event) continue;
        if (event.name === "error") {
          const { code, message, request_id } = event.data;
          throw new ChatError({ code, message, requestId: request_id });
        }
        if (event.name === "meta") turn.id = event.data.turn_id;
        turn.lastEvent = event.number || turn.lastEvent;
        yield event;
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof ChatError) throw error;
    throw new ChatError({ code: "broken_off", requestId: turn.requestId });
  } finally {
    reader.cancel().catch(() => {}); // already closed or broken: nothing is left to tell
  }
}

/** One block of an event stream; null for comments, which only keep the connection alive. */
function parse(block) {
  let name = "message";
  let number = 0;
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("id:")) number = Number(line.slice(3));
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { name, number, data: JSON.parse(data.join("\n")) } : null;
}
