// Answer text as DOM: paragraphs, lists, tables, bold, code, links. Every piece of text goes in as a text node, so that
// nothing a model or a document says can become markup.

/** An element with attributes and children; strings become text nodes. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function button(className, content, onClick) {
  const node = element("button", { class: className, type: "button" }, content);
  node.addEventListener("click", onClick);
  return node;
}

/** A drawing of one path on a square of 20 units, for the eye only. */
export function icon(path, size) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const attributes = { viewBox: "0 0 20 20", width: size, height: size, "aria-hidden": "true" };
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  drawing.setAttribute("d", path);
  svg.append(drawing);
  return svg;
}

/** An absolute http or https address, or null: no other scheme ever becomes a link. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null; // not an absolute address: shown as text
  }
}

export function link(label, address) {
  const href = safeUrl(address);
  if (!href) return element("span", {}, label);
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);
}

const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBERED = /^\s*(\d{1,3})[.)、]\s*(\S.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const TABLE_ROW = /^\s*\|/; // its closing bar may not have arrived yet
const TABLE_RULE = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;

/** The blocks of a text, as nodes. words: for the name of a table. */
export function blocks(text, words) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const nodes = [];
  for (let at = 0; at < lines.length; ) {
    const [node, next] = block(lines, at, words);
    if (node) nodes.push(node);
    at = next;
  }
  return nodes;
}

function block(lines, at, words) {
  if (!lines[at].trim()) return [null, at + 1];
  if (TABLE_ROW.test(lines[at])) return table(lines, at, words);
  if (BULLET.test(lines[at])) return list("ul", BULLET, lines, at);
  if (NUMBERED.test(lines[at])) return list("ol", NUMBERED, lines, at);
  const heading = lines[at].match(HEADING);
  if (heading) return [element("p", { class: "heading" }, ...inline(heading[1])), at + 1];
  return paragraph(lines, at);
}

function paragraph(lines, at) {
  const node = element("p");
  let next = at;
  while (next < lines.length && lines[next].trim() && (next === at || !startsBlock(lines[next]))) {
    if (next > at) node.append(element("br"));
    node.append(...inline(lines[next]));
    next += 1;
  }
  return [node, next];
}

function startsBlock(line) {
  return BULLET.test(line) || NUMBERED.test(line) || HEADING.test(line) || TABLE_ROW.test(line);
}

function list(tag, pattern, lines, at) {
  const first = lines[at].match(pattern);
  const node = element(tag, tag === "ol" && first[1] !== "1" ? { start: first[1] } : {});
  let next = at;
  for (; next < lines.length && pattern.test(lines[next]); next += 1) {
    node.append(element("li", {}, ...inline(lines[next].match(pattern).at(-1))));
  }
  return [node, next];
}

function table(lines, at, words) {
  const rows = [];
  let next = at;
  for (; next < lines.length && TABLE_ROW.test(lines[next]); next += 1) rows.push(lines[next]);
  const hasHead = rows.length > 1 && TABLE_RULE.test(rows[1]);
  const body = element("tbody");
  const head = element("thead");
  rows.forEach((row, index) => {
    if (TABLE_RULE.test(row)) return;
    const isHead = hasHead && index === 0;
    const cells = row.trim().replace(/^\||\|$/g, "").split("|");
    const texts = cells.map((cell) => element(isHead ? "th" : "td", {}, ...inline(cell.trim())));
    (isHead ? head : body).append(element("tr", {}, ...texts));
  });
  const scroller = element("div", { class: "table", tabindex: "0", role: "region", "aria-label": words.table });
  scroller.append(element("table", {}, ...(hasHead ? [head] : []), body));
  return [scroller, next];
}

const INLINE = /\*\*([^*\n]+)\*\*|(?<![\w*])\*([^\s*][^*\n]*)\*(?![\w*])|`([^`\n]+)`|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>"'）】，。；]+)/g;

/** The pieces of one line: text, strong, em, code, a. */
function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [, strong, soft, code, label, address, bare] = match;
    if (strong) nodes.push(element("strong", {}, strong));
    else if (soft) nodes.push(element("em", {}, soft));
    else if (code) nodes.push(element("code", {}, code));
    else if (label) nodes.push(link(label, address));
    else {
      const end = bare.replace(/[.,;:!?)\]]+$/, ""); // a sentence's own punctuation
      nodes.push(link(end, end), bare.slice(end.length));
    }
  }
  return [...nodes, text.slice(from)];
}
