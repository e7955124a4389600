// POST /v1/chat and its event stream. Knows nothing of the page.

/** An error that the page can explain: the service's envelope, or "network" and "broken_off" of our own. */
export class ChatError extends Error {
  constructor({ code, message = "", requestId = "", status = 0 }) {
    super(message || code);
    Object.assign(this, { code, publicMessage: message, requestId, status });
  }
}

/** Yields {name, data} for each event of one turn; returns after `done`, throws ChatError for anything else. */
export async function* ask({ messages, conversationId, key, signal }) {
  const response = await post({ messages, conversationId, key, signal });
  if (!response.ok) throw await refusal(response);
  const requestId = response.headers.get("x-request-id") ?? "";
  for await (const event of events(response.body, requestId, signal)) {
    if (event.name === "error") {
      const { code, message, request_id } = event.data;
      throw new ChatError({ code, message, requestId: request_id });
    }
    yield event;
    if (event.name === "done") return;
  }
  throw new ChatError({ code: "broken_off", requestId });
}

async function post({ messages, conversationId, key, signal }) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const body = { messages };
  if (conversationId) body.conversation_id = conversationId;
  try {
    return await fetch("/v1/chat", { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (signal.aborted) throw error;
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

async function* events(body, requestId, signal) {
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

/** One block of an event stream; null for comments, which only keep the connection alive. */
function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}
