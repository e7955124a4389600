// One answer in the chat: its text as it comes, its sources, what can be done next, whether it helped.

import { ChatError } from "./stream.js";
import { blocks, button, element, icon, link } from "./render.js";
import { degradedNote } from "./words.js";

const THUMB = "M6.500 9v8H3.500V9zM6.500 9l3.300-6.200c1.200 0 2 .8 2 2V7.500h3.900c1.100 0 1.900 1 1.600 2.100l-1.500 6c-.2.800-.9 1.400-1.700 1.400H6.500";

export class Answer {
  /**
   * turn: {text, meta, citations, done}, filled as the events come, so that whoever keeps it can show it again.
   * chat: {say(text), send(message), rate(turnId, rating), retry(turn)}. details: whether path and times are shown.
   */
  constructor(turn, { words, chat, details, isAtEnd, follow }) {
    Object.assign(this, { turn, words, chat, details, isAtEnd, follow });
    this.waiting = element("p", { class: "waiting" }, element("span", { class: "unseen" }, words.working));
    this.waiting.append(element("i"), element("i"), element("i"));
    this.body = element("div", { class: "text" }, this.waiting);
    this.article = element("article", { class: "theirs", "aria-label": words.answer, "aria-busy": "true" }, this.body);
    this.sources = element("ol", { class: "sources", "aria-label": words.sources });
    this.paused = element("p", { class: "paused", hidden: "" }, words.paused);
    this.article.append(this.paused);
    this.frame = 0;
  }

  receive({ name, data }) {
    this.paused.hidden = name !== "paused";
    if (name === "paused") this.chat.say(this.words.paused);
    if (name === "meta") this.turn.meta = data;
    if (name === "delta") this.write(data.text);
    if (name === "citation") this.turn.citations.push(data);
    if (name === "done") this.finish(data);
  }

  /** Drawn once per frame at most: tokens may come faster than the screen. */
  write(text) {
    this.turn.text += text;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const follows = this.isAtEnd();
    if (this.turn.text) this.body.replaceChildren(...blocks(this.turn.text, this.words));
    this.follow(follows);
  }

  drawNow() {
    cancelAnimationFrame(this.frame);
    this.draw();
  }

  finish(done) {
    const { meta, citations } = this.turn;
    this.turn.done = done;
    this.drawNow();
    if (this.details) this.article.append(facts(this.words, done, meta));
    this.sources.replaceChildren(...citations.map((citation) => sourceCard(this.words, citation)));
    if (citations.length) this.article.append(this.sources);
    for (const note of notesOf(this.words, done, meta, this.details)) this.note(note);
    if (done.links.length) {
      this.article.append(element("p", { class: "links" }, ...done.links.map(({ label, url }) => link(label, url))));
    }
    if (meta?.turn_id) this.article.append(this.thumbs(meta.turn_id));
    if (done.buttons.length) this.article.append(this.suggestions(done.buttons));
  }

  suggestions(buttons) {
    const row = element("div", { class: "next", role: "group", "aria-label": this.words.next });
    for (const { label, message } of buttons) row.append(button("chip", label, () => this.chat.send(message)));
    return row;
  }

  thumbs(turnId) {
    const row = element("div", { class: "thumbs", role: "group", "aria-label": this.words.helpful });
    const buttons = ["up", "down"].map((rating) => {
      const label = rating === "up" ? this.words.yes : this.words.no;
      const node = button("thumb", icon(THUMB, 18), () => rate(rating));
      for (const [name, value] of [["aria-label", label], ["title", label], ["data-rating", rating]]) {
        node.setAttribute(name, value);
      }
      return node;
    });
    const said = element("span");
    const show = () => {
      for (const node of buttons) node.setAttribute("aria-pressed", String(node.dataset.rating === this.turn.rating));
    };
    const rate = async (rating) => {
      try {
        await this.chat.rate(turnId, rating);
        this.turn.rating = rating;
        said.textContent = this.words.thanks;
      } catch (error) {
        if (!(error instanceof ChatError)) throw error;
        said.textContent = this.words.notSent;
      }
      show();
      this.chat.say(said.textContent);
      this.chat.keep();
    };
    row.append(...buttons, said);
    show();
    return row;
  }

  note(text) {
    this.drawNow();
    this.article.append(element("p", { class: "note" }, text));
  }

  fail(error) {
    this.drawNow();
    const known = error instanceof ChatError ? error : new ChatError({ code: "internal_error" });
    if (known !== error) console.error(error); // a fault of this script
    const text = this.words.errors[known.code] ?? (known.publicMessage || this.words.errors.internal_error);
    this.failure = failure(this.words, known, text, () => this.chat.retry(this));
    this.article.append(this.failure);
    this.chat.say(text);
    return known;
  }

  end() {
    this.article.setAttribute("aria-busy", "false");
    this.paused.hidden = true;
    this.waiting.remove();
    this.follow(this.isAtEnd(240));
  }
}

function facts(words, done, meta) {
  const [label, meaning] = words.paths[done.path] ?? [done.path, ""];
  const [first, total] = words.times(done.ttft_ms, done.duration_ms);
  const row = element("p", { class: "facts" });
  row.append(
    element("span", { class: "badge", "data-path": done.path, title: meaning }, label),
    element("span", { class: "ttft", "data-ms": done.ttft_ms }, first),
    element("span", { class: "total", "data-ms": done.duration_ms }, total),
  );
  if (meta?.cache_age_s != null) row.append(element("span", {}, words.age(meta.cache_age_s)));
  return row;
}

/** What a customer has to know of the answer; with details, also what it was made without. */
function notesOf(words, done, meta, details) {
  const without = details ? [...(meta?.degraded ?? []), ...done.degraded] : [];
  const notes = without.map((what) => degradedNote(words, what));
  if (done.finish_reason === "length") notes.push(words.cut);
  const isWritten = ["small", "large", "cloud"].includes(done.path);
  if (isWritten && !done.grounded) notes.push(words.ungrounded);
  return new Set(notes);
}

function sourceCard(words, { index, title, url, heading_path, quote, page }) {
  const place = [...heading_path.filter((heading) => heading !== title), ...(page == null ? [] : [words.page(page)])];
  const text = element("div", { class: "source-text" }, element("p", { class: "source-title" }, link(title, url)));
  if (place.length) text.append(element("p", { class: "source-place" }, place.join(" › ")));
  if (quote) text.append(element("p", { class: "source-quote" }, quote));
  const number = element("span", { class: "number", "aria-hidden": "true" }, String(index));
  return element("li", { class: "source", value: index }, number, text);
}

function failure(words, error, text, retry) {
  const box = element("div", { class: "failure", "data-code": error.code }, element("p", {}, text));
  const row = element("p", { class: "failure-row" }, button("chip", words.retry, retry));
  if (error.requestId) row.append(element("span", {}, `${words.requestId} `, element("code", {}, error.requestId)));
  box.append(row);
  return box;
}
