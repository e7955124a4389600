// The chat page: one conversation, kept in this tab. Words are in words.js, the wire in stream.js, text in render.js.

import { ask, cancel, ChatError } from "./stream.js";
import { blocks, element, link } from "./render.js";
import { degradedNote, listTiers, WORDS } from "./words.js";

const HISTORY = 10; // messages sent with a question, itself included
const MAX_CHARS = 8000; // of one message, as the service accepts it
const POLL_MS = 3000;
const POLL_SLOWLY_MS = 20000; // while a tier is down, which may last
const KEY = "raydesk.key";
const LANGUAGE = "raydesk.language";
const $ = (id) => document.getElementById(id);

const conversation = { id: "", messages: [] };
let words = WORDS[firstLanguage()];
let running = null; // the AbortController of the answer that is being written
let readiness = null; // what /readyz said last

function firstLanguage() {
  const kept = localStorage.getItem(LANGUAGE);
  if (kept in WORDS) return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

// --- asking ---

async function send(text) {
  const question = text.trim();
  if (!question || running) return;
  $("question").value = "";
  fitQuestion();
  show($("welcome"), false);
  show($("new-chat"), true);
  clearOldButtons();
  $("thread").append(element("article", { class: "mine", "aria-label": words.you }, element("p", {}, question)));
  conversation.messages.push({ role: "user", content: question });
  await answer();
}

/** Asks what the conversation ends with; used for a first try and for every other. */
async function answer() {
  const { messages } = conversation; // a new chat begins with a list of its own
  const turn = newTurn();
  running = new AbortController();
  setBusy(true);
  try {
    await receive(turn, running.signal);
  } catch (error) {
    if (running?.signal.aborted) {
      turn.note(words.stopped);
      if (turn.meta) cancel(turn.meta.turn_id, sessionStorage.getItem(KEY));
    } else turn.fail(error);
  } finally {
    turn.end();
    if (turn.text) messages.push({ role: "assistant", content: turn.text.slice(0, MAX_CHARS) });
    running = null;
    setBusy(false);
  }
}

async function receive(turn, signal) {
  const messages = conversation.messages.slice(-HISTORY);
  const key = sessionStorage.getItem(KEY);
  for await (const { name, data } of ask({ messages, conversationId: conversation.id, key, signal })) {
    if (name === "meta") turn.begin(data);
    if (name === "delta") turn.write(data.text);
    if (name === "citation") turn.cite(data);
    if (name === "done") turn.finish(data);
  }
}

// --- one answer on the page ---

function newTurn() {
  const waiting = element("p", { class: "waiting" }, element("span", { class: "unseen" }, words.working));
  waiting.append(element("i"), element("i"), element("i"));
  const body = element("div", { class: "text" }, waiting);
  const article = element("article", { class: "theirs", "aria-label": words.answer, "aria-busy": "true" }, body);
  $("thread").append(article);
  follow(true);
  return new Turn(article, body);
}

class Turn {
  constructor(article, body) {
    this.article = article;
    this.body = body;
    this.facts = element("p", { class: "facts" });
    this.sources = element("ol", { class: "sources", "aria-label": words.sources });
    this.text = "";
    this.frame = 0;
  }

  begin(meta) {
    conversation.id = meta.conversation_id;
    this.meta = meta;
  }

  /** Drawn once per frame at most: tokens may come faster than the screen. */
  write(text) {
    this.text += text;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const follows = isAtEnd();
    if (this.text) this.body.replaceChildren(...blocks(this.text));
    follow(follows);
  }

  cite(citation) {
    this.sources.append(sourceCard(citation));
  }

  finish(done) {
    this.drawNow();
    this.facts.append(badge(done.path), ...timesOf(done, this.meta));
    this.article.append(this.facts);
    if (this.sources.children.length) this.article.append(this.sources);
    for (const note of notesOf(done, this.meta)) this.note(note);
    this.suggest(done);
    $("announcer").textContent = this.text;
  }

  suggest({ links, buttons }) {
    if (links.length) this.article.append(element("p", { class: "links" }, ...links.map(({ label, url }) => link(label, url))));
    if (!buttons.length) return;
    const row = element("div", { class: "next", role: "group", "aria-label": words.next });
    for (const { label, message } of buttons) row.append(button("chip", label, () => send(message)));
    this.article.append(row);
  }

  note(text) {
    this.drawNow();
    this.article.append(element("p", { class: "note" }, text));
  }

  fail(error) {
    this.drawNow();
    const known = error instanceof ChatError ? error : new ChatError({ code: "internal_error" });
    if (known !== error) console.error(error); // a fault of this page
    if (known.status === 401) askForKey();
    this.article.append(failure(known, () => this.retry()));
    $("announcer").textContent = errorText(known);
  }

  /** The failed answer leaves; so does the part of it that was kept as history. */
  retry() {
    if (running) return;
    if (conversation.messages.at(-1)?.role === "assistant") conversation.messages.pop();
    this.article.remove();
    answer();
  }

  drawNow() {
    cancelAnimationFrame(this.frame);
    this.draw();
  }

  end() {
    this.article.setAttribute("aria-busy", "false");
    this.body.querySelector(".waiting")?.remove();
    follow(isAtEnd(240));
  }
}

function badge(path) {
  const [label, meaning] = words.paths[path] ?? [path, ""];
  return element("span", { class: "badge", "data-path": path, title: meaning }, label);
}

function timesOf(done, meta) {
  const texts = words.times(done.ttft_ms, done.duration_ms);
  const facts = [
    element("span", { class: "ttft", "data-ms": done.ttft_ms }, texts[0]),
    element("span", { class: "total", "data-ms": done.duration_ms }, texts[1]),
  ];
  if (meta?.cache_age_s != null) facts.push(element("span", {}, words.age(meta.cache_age_s)));
  return facts;
}

function notesOf(done, meta) {
  const notes = [...(meta?.degraded ?? []), ...done.degraded].map((what) => degradedNote(words, what));
  if (done.finish_reason === "length") notes.push(words.cut);
  const isWritten = ["small", "large", "cloud"].includes(done.path);
  if (isWritten && !done.grounded) notes.push(words.ungrounded);
  return new Set(notes);
}

function sourceCard({ index, title, url, heading_path, quote, page }) {
  const place = [...heading_path.filter((heading) => heading !== title), ...(page == null ? [] : [words.page(page)])];
  const text = element("div", { class: "source-text" }, element("p", { class: "source-title" }, link(title, url)));
  if (place.length) text.append(element("p", { class: "source-place" }, place.join(" › ")));
  if (quote) text.append(element("p", { class: "source-quote" }, quote));
  return element("li", { class: "source", value: index }, element("span", { class: "number", "aria-hidden": "true" }, String(index)), text);
}

function failure(error, retry) {
  const box = element("div", { class: "failure", role: "alert", "data-code": error.code });
  box.append(element("p", {}, errorText(error)));
  const row = element("p", { class: "failure-row" }, button("chip", words.retry, retry));
  if (error.requestId) row.append(element("span", {}, `${words.requestId} `, element("code", {}, error.requestId)));
  box.append(row);
  return box;
}

function errorText(error) {
  return words.errors[error.code] ?? (error.publicMessage || words.errors.internal_error);
}

function button(className, label, onClick) {
  const node = element("button", { class: className, type: "button" }, label);
  node.addEventListener("click", onClick);
  return node;
}

// --- the page around the answers ---

function setBusy(isBusy) {
  show($("send"), !isBusy);
  show($("stop"), isBusy);
}

function show(node, isShown) {
  node.hidden = !isShown;
}

function isAtEnd(tolerance = 90) {
  const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
  return scrollHeight - clientHeight - scrollTop < tolerance;
}

function follow(isWanted) {
  if (isWanted) window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

/** Suggestions and retries belong to the last answer only. */
function clearOldButtons() {
  for (const node of document.querySelectorAll(".next, .failure .chip")) node.remove();
}

function fitQuestion() {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 180)}px`;
}

function startAnew() {
  running?.abort();
  conversation.id = "";
  conversation.messages = [];
  $("thread").replaceChildren();
  show($("welcome"), true);
  show($("new-chat"), false);
  $("question").focus();
}

function askForKey() {
  sessionStorage.removeItem(KEY);
  show($("key-form"), true);
  $("key").focus();
}

function useKey(event) {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  show($("key-form"), false);
  const failures = document.querySelectorAll(".failure .chip");
  [...failures].at(-1)?.click();
  $("question").focus();
}

// --- words ---

function speak() {
  document.documentElement.lang = words.lang;
  for (const node of document.querySelectorAll("[data-words]")) node.textContent = words[node.dataset.words];
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", words[node.dataset.label]);
  $("question").placeholder = words.placeholder;
  $("language").textContent = words.otherLanguage;
  $("language").setAttribute("aria-label", words.otherLanguageLabel);
  $("language").lang = words.lang === "en" ? "zh-CN" : "en";
  $("starters").replaceChildren(...words.starters.map((text) => element("li", {}, button("starter", text, () => send(text)))));
  showReadiness();
}

function changeLanguage() {
  const language = words.lang === "en" ? "zh" : "en";
  localStorage.setItem(LANGUAGE, language);
  words = WORDS[language];
  speak();
}

// --- what is up ---

async function poll() {
  try {
    const response = await fetch("/readyz");
    readiness = await response.json();
  } catch {
    readiness = { unreachable: true }; // also said on the page; the next poll may find it back
  }
  showReadiness();
  const { ready, tiers = [] } = readiness;
  if (!ready || tiers.some(({ state }) => state === "starting")) setTimeout(poll, POLL_MS);
  else if (tiers.some(({ state }) => state === "down")) setTimeout(poll, POLL_SLOWLY_MS);
}

function showReadiness() {
  const [state, notice] = readinessWords();
  $("status").dataset.state = state;
  $("status-text").textContent = words.status[state];
  $("notice").textContent = notice;
  show($("notice"), Boolean(notice));
}

function readinessWords() {
  if (!readiness) return ["waiting", ""];
  if (readiness.unreachable) return ["away", words.unreachable];
  if (!readiness.ready) return ["starting", words.roomsStarting];
  const of = (wanted) => readiness.tiers.filter(({ state }) => state === wanted).map(({ name }) => name);
  if (of("starting").length) return ["partial", words.modelStarting(listTiers(words, of("starting")))];
  if (of("down").length) return ["partial", words.modelDown(listTiers(words, of("down")))];
  return ["ready", ""];
}

// --- start ---

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send($("question").value);
});
$("question").addEventListener("input", fitQuestion);
$("question").addEventListener("keydown", (event) => {
  // While a Chinese word is being composed, Enter belongs to the input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send($("question").value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("question").focus();
});
$("new-chat").addEventListener("click", startAnew);
$("language").addEventListener("click", changeLanguage);
$("key-form").addEventListener("submit", useKey);
speak();
poll();
