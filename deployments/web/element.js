// <raydesk-chat>: the chat as one element, which needs nothing of the page that it stands in.
//
// Attributes: server (address of the service; where this script came from), key (an API key that may stand in a page),
// collection, lang ("en", "zh"; the browser's), theme ("light", "dark"; the system's), heading, starters (first
// questions, one a line), layout ("page" fills the place it is given; else a button that opens a panel), details
// (shows how each answer was made). Methods: show(), close(), send(text), stop(), retry(), startAnew().
// Event "raydesk-error", whose detail has the error's code and status.

import { Answer } from "./answer.js";
import { ELEMENT_CSS } from "./element.css";
import { button, element, icon } from "./render.js";
import { newKey, Service } from "./stream.js";
import { WORDS } from "./words.js";

const HISTORY = 10; // messages sent with a question, itself included
const KEPT_TURNS = 30; // shown again after the page was left
const MAX_CHARS = 8000; // of one message, as the service accepts it
const SCRIPT = document.currentScript?.src; // none where this file is loaded as a module
const SPEECH = "M10 3c4.400 0 7.500 2.800 7.500 6.400s-3.100 6.400-7.500 6.400c-.9 0-1.700-.1-2.500-.3L3.800 17l.9-3.100C3.300 12.700 2.500 11.200 2.500 9.400 2.500 5.800 5.600 3 10 3z";
const ARROW_UP = "M10 16V4.500M4.800 9.500 10 4.300l5.200 5.200";
const SQUARE = "M5.500 5.500h9v9h-9z";
const CROSS = "M5 5l10 10M15 5 5 15";

export class RaydeskChat extends HTMLElement {
  static observedAttributes = ["heading", "lang", "starters"];

  #turns = []; // {question, body, key, text, meta, citations, done, rating}, oldest first: all that is known
  #conversationId = "";
  #running = null; // {answer, controller} of the answer that is being written
  #parts = null; // the nodes that are spoken to

  connectedCallback() {
    if (!this.#parts) {
      this.#build();
      this.#restore();
    }
    if (this.#isPage) this.#parts.question.focus();
    for (const change of ["resize", "scroll"]) window.visualViewport?.addEventListener(change, this.#fitPanel);
  }

  disconnectedCallback() {
    for (const change of ["resize", "scroll"]) window.visualViewport?.removeEventListener(change, this.#fitPanel);
  }

  attributeChangedCallback() {
    if (this.#parts) this.#speak();
  }

  // --- what a page can do with it ---

  show() {
    this.#setOpen(true);
    this.#parts.question.focus();
  }

  close() {
    if (this.#isPage) return;
    this.#setOpen(false);
    this.#parts.launcher.focus();
  }

  send(text) {
    const question = text.trim().slice(0, MAX_CHARS);
    if (!question || this.#running) return;
    this.#parts.question.value = "";
    this.#fitQuestion();
    this.#clearOldButtons();
    const turn = { question, text: "", citations: [] };
    this.#turns.push(turn);
    this.#showQuestion(turn);
    this.#answer(turn);
  }

  /** Ends the answer that is being written. */
  stop() {
    if (!this.#running) return;
    const { answer, controller } = this.#running;
    controller.abort();
    // Whether that is heard or not changes nothing here: the service ends a turn that nobody reads.
    if (answer.turn.meta) this.#service.cancel(answer.turn.meta.turn_id).catch(() => {});
    this.#parts.question.focus();
  }

  /** Asks once more what could not be answered last. */
  retry() {
    this.#parts.thread.querySelector(".failure .chip")?.click();
  }

  startAnew() {
    this.stop();
    this.#running = null;
    this.#turns = [];
    this.#conversationId = "";
    this.#parts.thread.replaceChildren();
    this.#setBusy(false);
    this.#keep();
    this.#showState();
    this.#parts.question.focus();
  }

  // --- asking ---

  async #answer(turn) {
    turn.body ??= this.#bodyOf(turn);
    turn.key ??= newKey();
    turn.isOpen = true;
    const answer = this.#newAnswer(turn);
    const running = { answer, controller: new AbortController() };
    const { signal } = running.controller;
    this.#running = running;
    this.#setBusy(true);
    this.#showState();
    this.#keep();
    this.#follow(true);
    try {
      for await (const event of this.#service.ask(turn.body, { idempotencyKey: turn.key, signal })) {
        answer.receive(event);
        if (event.name === "meta") this.#conversationId = event.data.conversation_id;
      }
      this.#say(turn.text);
    } catch (error) {
      if (signal.aborted) answer.note(this.#words.stopped);
      else this.#failed(answer, error);
    } finally {
      answer.end();
      if (this.#running === running) this.#finished(turn);
    }
  }

  #finished(turn) {
    this.#running = null;
    turn.isOpen = false;
    this.#setBusy(false);
    this.#keep();
    if (this.#parts.panel.hidden) this.#parts.launcher.classList.add("has-news");
    this.#speakLauncher();
  }

  #failed(answer, error) {
    const { code, status, isUncertain } = answer.fail(error);
    if (!isUncertain) answer.turn.key = answer.turn.body = undefined; // this turn has ended: another try is another one
    this.dispatchEvent(new CustomEvent("raydesk-error", { bubbles: true, composed: true, detail: { code, status } }));
  }

  #retry(answer) {
    const { turn } = answer;
    if (this.#running || turn !== this.#turns.at(-1)) return;
    answer.article.remove();
    Object.assign(turn, { text: "", citations: [], meta: undefined });
    this.#parts.question.focus();
    this.#answer(turn);
  }

  #bodyOf(turn) {
    const messages = this.#turns.flatMap(({ question, text }) => [
      { role: "user", content: question },
      ...(text ? [{ role: "assistant", content: text.slice(0, MAX_CHARS) }] : []),
    ]);
    const body = { messages: messages.slice(-HISTORY) };
    if (this.#conversationId) body.conversation_id = this.#conversationId;
    const collection = this.getAttribute("collection");
    return collection ? { ...body, collection } : body;
  }

  get #service() {
    return new Service(this.#base, this.getAttribute("key") ?? "");
  }

  get #base() {
    return (this.getAttribute("server") ?? (SCRIPT ? new URL(SCRIPT).origin : location.origin)).replace(/\/+$/, "");
  }

  // --- kept in this tab, so that a chat survives a walk through the host's pages, and the answer that was running ---

  #keep() {
    if (!this.isConnected) return; // its place has been taken by another, which keeps what it knows
    const kept = { id: this.#conversationId, turns: this.#turns.slice(-KEPT_TURNS), isOpen: !this.#parts.panel.hidden };
    try {
      sessionStorage.setItem(this.#storageKey, JSON.stringify(kept));
    } catch {
      // No room, or not allowed on this page: the chat then ends with the page.
    }
  }

  #restore() {
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(this.#storageKey));
    } catch {
      // Not allowed on this page.
    }
    this.#conversationId = kept?.id ?? "";
    this.#turns = kept?.turns ?? [];
    this.#setOpen(this.#isPage || Boolean(kept?.isOpen));
    for (const turn of this.#turns) {
      this.#showQuestion(turn);
      if (turn.isOpen) Object.assign(turn, { text: "", citations: [], meta: undefined });
      else this.#showAgain(turn);
    }
    this.#showState();
    const last = this.#turns.at(-1);
    if (last?.isOpen) this.#answer(last); // with its key: what was running is joined, not asked twice
    else this.#clearOldButtons(-1);
    this.#follow(true);
  }

  #showAgain(turn) {
    const answer = this.#newAnswer(turn);
    if (turn.done) answer.finish(turn.done);
    else if (turn.text) answer.note(this.#words.stopped);
    else answer.article.remove();
    answer.end();
  }

  get #storageKey() {
    return `raydesk.chat ${this.#base}`;
  }

  // --- what is seen ---

  #build() {
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet(); // neither a style element nor an attribute: any host's policy allows it
    sheet.replaceSync(ELEMENT_CSS);
    root.adoptedStyleSheets = [sheet];
    const parts = {
      launcher: button("launcher", icon(SPEECH, 28), () => (parts.panel.hidden ? this.show() : this.close())),
      title: element("h2", { class: "title" }),
      newChat: button("plain", "", () => this.startAnew()),
      close: button("plain close", icon(CROSS, 20), () => this.close()),
      welcome: element("section", { class: "welcome", id: "welcome" }),
      thread: element("div", { class: "thread" }),
      // Words that come one by one are not read out; the announcer says the answer once it is complete.
      scroller: element("div", { class: "scroller", role: "log", "aria-live": "off", tabindex: "0" }),
      announcer: element("p", { class: "unseen", role: "status", "aria-live": "polite" }),
      label: element("label", { class: "unseen", for: "question" }),
      question: element("textarea", { id: "question", rows: 1, maxlength: MAX_CHARS, enterkeyhint: "send" }),
      send: element("button", { class: "round", type: "submit" }, icon(ARROW_UP, 20)),
      stop: button("round", icon(SQUARE, 20), () => this.stop()),
      smallPrint: element("p", { class: "small-print" }),
      panel: element("section", { class: "panel", id: "panel", hidden: "" }),
    };
    this.#parts = parts;
    parts.stop.firstChild.setAttribute("class", "stop");
    parts.panel.append(this.#header(), this.#conversation(), parts.announcer, this.#dock());
    if (this.#isPage) parts.panel.setAttribute("role", "region");
    else {
      parts.panel.setAttribute("role", "dialog");
      parts.launcher.setAttribute("aria-controls", "panel");
      parts.launcher.setAttribute("aria-haspopup", "dialog");
      root.append(parts.launcher);
    }
    root.append(parts.panel);
    parts.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      if (this.#isPage) this.stop();
      else this.close();
    });
    this.#keepNewestInSight();
    this.#speak();
    this.#setBusy(false);
    this.#showState();
  }

  /** Where a keyboard takes room away, too. */
  #keepNewestInSight() {
    const { scroller } = this.#parts;
    let wasAtEnd = true;
    scroller.addEventListener("scroll", () => {
      wasAtEnd = this.#isAtEnd();
    });
    new ResizeObserver(() => this.#follow(wasAtEnd)).observe(scroller);
  }

  /** A phone's keyboard covers the page, and most pages do not shrink for it: the panel takes what can still be seen. */
  #fitPanel = () => {
    const { height, offsetTop, scale } = window.visualViewport;
    if (scale > 1.01) return; // zoomed in by hand: that is to see it larger
    const { style } = this.#parts.panel;
    style.setProperty("--above", `${offsetTop}px`);
    style.setProperty("--below", `${Math.max(0, window.innerHeight - offsetTop - height)}px`);
  };

  #header() {
    const { title, newChat, close } = this.#parts;
    const named = element("slot", { name: "header" }, title);
    const inner = element("div", { class: "bar-inner" }, element("div", { class: "header" }, named), newChat);
    inner.append(element("slot", { name: "actions" }), ...(this.#isPage ? [] : [close]));
    return element("header", { class: "bar" }, inner);
  }

  #conversation() {
    const { scroller, welcome, thread } = this.#parts;
    scroller.append(element("div", { class: "page" }, welcome, thread));
    return scroller;
  }

  #dock() {
    const { label, question, send, stop, smallPrint } = this.#parts;
    const composer = element("form", { class: "composer" }, label, question, send, stop);
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(question.value);
    });
    question.addEventListener("input", () => this.#fitQuestion());
    question.addEventListener("keydown", (event) => {
      // While a Chinese word is being composed, Enter belongs to the input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send(question.value);
    });
    return element("footer", { class: "dock" }, element("slot", { name: "dock" }), composer, smallPrint);
  }

  #showQuestion({ question }) {
    const said = element("p", {}, question);
    this.#parts.thread.append(element("article", { class: "mine", "aria-label": this.#words.you }, said));
  }

  #newAnswer(turn) {
    const answer = new Answer(turn, {
      words: this.#words,
      details: this.hasAttribute("details"),
      isAtEnd: (tolerance) => this.#isAtEnd(tolerance),
      follow: (isWanted) => this.#follow(isWanted),
      chat: {
        say: (text) => this.#say(text),
        send: (message) => this.send(message),
        rate: (turnId, rating) => this.#service.rate(turnId, rating),
        retry: (failed) => this.#retry(failed),
        keep: () => this.#keep(),
      },
    });
    this.#parts.thread.append(answer.article);
    return answer;
  }

  /** Suggestions and retries belong to the last answer only. end: as of `slice`. */
  #clearOldButtons(end) {
    for (const article of [...this.#parts.thread.querySelectorAll(".theirs")].slice(0, end)) {
      for (const node of article.querySelectorAll(".next, .failure .chip")) node.remove();
    }
  }

  #setOpen(isOpen) {
    this.#parts.panel.hidden = !isOpen;
    this.#parts.launcher.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.#parts.launcher.classList.remove("has-news");
    this.#speakLauncher();
    this.#keep();
  }

  #setBusy(isBusy) {
    this.#parts.send.hidden = isBusy;
    this.#parts.stop.hidden = !isBusy;
  }

  #showState() {
    const hasBegun = this.#turns.length > 0;
    this.#parts.welcome.hidden = hasBegun;
    this.#parts.newChat.hidden = !hasBegun;
  }

  #say(text) {
    this.#parts.announcer.textContent = text;
  }

  #isAtEnd(tolerance = 90) {
    const { scrollHeight, clientHeight, scrollTop } = this.#parts.scroller;
    return scrollHeight - clientHeight - scrollTop < tolerance;
  }

  #follow(isWanted) {
    if (isWanted) this.#parts.scroller.scrollTop = this.#parts.scroller.scrollHeight;
  }

  #fitQuestion() {
    const field = this.#parts.question;
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, 180)}px`;
  }

  get #isPage() {
    return this.getAttribute("layout") === "page";
  }

  // --- words ---

  get #words() {
    const wished = (this.getAttribute("lang") || navigator.language).toLowerCase();
    return wished.startsWith("zh") ? WORDS.zh : WORDS.en;
  }

  #speak() {
    const words = this.#words;
    const { panel, title, newChat, close, scroller, label, question, send, stop, smallPrint } = this.#parts;
    const heading = this.getAttribute("heading") || words.heading;
    for (const node of this.shadowRoot.children) node.setAttribute("lang", words.lang);
    panel.setAttribute("aria-label", heading);
    title.textContent = heading;
    newChat.textContent = words.newChat;
    label.textContent = words.questionLabel;
    question.placeholder = words.placeholder;
    smallPrint.textContent = words.smallPrint;
    for (const [node, text] of [[close, words.close], [scroller, words.thread], [send, words.send], [stop, words.stop]]) {
      node.setAttribute("aria-label", text);
    }
    this.#welcome(words);
    this.#speakLauncher();
  }

  #welcome(words) {
    const greeting = element("h2", {}, words.welcome);
    const starters = (this.getAttribute("starters") ?? "").split("\n").map((text) => text.trim()).filter(Boolean);
    const list = starters.map((text) => element("li", {}, button("starter", text, () => this.send(text))));
    this.#parts.welcome.replaceChildren(greeting, element("p", {}, words.welcomeText));
    if (list.length) this.#parts.welcome.append(element("ul", { class: "starters" }, ...list));
  }

  #speakLauncher() {
    const { launcher, panel } = this.#parts;
    const { open, openNews, close } = this.#words;
    const closed = launcher.classList.contains("has-news") ? openNews : open;
    launcher.setAttribute("aria-label", panel.hidden ? closed : close);
  }
}

if (!customElements.get("raydesk-chat")) customElements.define("raydesk-chat", RaydeskChat);
