// Renders /openapi.json. Everything it says is put in as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// The little Markdown that descriptions use: `code`, **bold**, paragraphs.
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}

function paragraphs(text = "") {
  return text.trim().split(/\n\s*\n/).filter(Boolean).map((one) => element("p", {}, ...inline(one)));
}

function table(heads, rows) {
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, ...[cell].flat()))));
  return element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function example(value) {
  const text = typeof value === "string" ? value.trimEnd() : JSON.stringify(value, null, 2);
  return element("pre", { tabindex: "0" }, text); // can be scrolled, so the keyboard must reach it
}

class Page {
  constructor(document_) {
    this.schemas = document_.components.schemas;
    this.document = document_;
  }

  resolved(schema) {
    const name = schema.$ref?.split("/").pop();
    return name ? { name, ...this.schemas[name] } : schema;
  }

  // A type in a few words: "string", "array of Citation", "en | zh".
  typeOf(schema) {
    if (schema.$ref) return schema.$ref.split("/").pop();
    const options = schema.anyOf ?? schema.oneOf;
    if (options) return [...new Set(options.map((one) => this.typeOf(one)))].join(" | ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
    if (schema.type === "array") return `array of ${this.typeOf(schema.items ?? {})}`;
    return schema.type ?? "any";
  }

  limits(schema) {
    const parts = [];
    if (schema.default !== undefined && schema.default !== null) parts.push(`default ${JSON.stringify(schema.default)}`);
    for (const one of [schema, ...(schema.anyOf ?? [])]) {
      if (one.minimum !== undefined) parts.push(`at least ${one.minimum}`);
      if (one.maximum !== undefined && one.maximum < 1e15) parts.push(`at most ${one.maximum}`);
      if (one.pattern) parts.push(`matches ${one.pattern}`);
    }
    return parts.join(", ");
  }

  fields(schema) {
    const known = this.resolved(schema);
    const required = new Set(known.required ?? []);
    const rows = Object.entries(known.properties ?? {}).map(([name, field]) => {
      const what = this.resolved(field);
      const words = [field.description ?? what.description ?? "", this.limits(field)].filter(Boolean).join(" · ");
      return [
        [element("code", {}, name), required.has(name) ? " *" : ""],
        element("code", { class: "soft" }, this.typeOf(field)),
        inline(words),
      ];
    });
    return rows.length ? [table(["Field", "Type", ""], rows)] : [];
  }

  // The fields of a type, and below it those of the types that it is made of.
  described(schema, seen = new Set()) {
    const options = (schema.anyOf ?? schema.oneOf ?? []).filter((one) => one.$ref);
    if (options.length) return options.flatMap((one) => this.described(one, seen));
    if (schema.type === "array") return this.described(schema.items ?? {}, seen);
    const known = this.resolved(schema);
    if (seen.has(known.name)) return [];
    if (known.name) seen.add(known.name);
    const inner = Object.values(known.properties ?? {}).flatMap((field) => this.described(field, seen));
    const own = this.fields(known);
    if (!own.length) return inner;
    const title = element("summary", {}, element("code", {}, known.name ?? known.title ?? "object"));
    return [element("details", {}, title, ...own), ...inner];
  }

  body(content) {
    return Object.entries(content).flatMap(([type, media]) => {
      const parts = [element("p", { class: "soft" }, type)];
      const events = media.schema["x-events"];
      if (events) {
        for (const [name, schema] of Object.entries(events)) {
          const inner = this.described(schema);
          parts.push(element("p", {}, "event ", element("code", {}, name)), ...inner);
        }
      } else {
        parts.push(...this.described(media.schema));
      }
      for (const [name, one] of Object.entries(media.examples ?? {})) {
        parts.push(element("p", { class: "soft" }, `Example: ${name}`), example(one.value));
      }
      if (media.example !== undefined) parts.push(element("p", { class: "soft" }, "Example"), example(media.example));
      return parts;
    });
  }

  operation(method, path, operation) {
    const parts = [
      element("h3", {}, operation.summary),
      element("p", { class: "where" }, element("span", { class: "method" }, method.toUpperCase()), ` ${path}`),
      ...paragraphs(operation.description),
    ];
    if (!operation.security.length) parts.push(element("p", { class: "soft" }, "Needs no key."));
    if (operation.parameters) {
      const rows = operation.parameters.map((one) => [
        [element("code", {}, one.name), one.required ? " *" : ""],
        element("code", { class: "soft" }, this.typeOf(one.schema)),
        [`${one.in}. `, ...inline(one.description)],
      ]);
      parts.push(element("h4", {}, "Parameters"), table(["Name", "Type", ""], rows));
    }
    if (operation.requestBody) {
      parts.push(element("h4", {}, "Body"), ...this.body(operation.requestBody.content));
    }
    const replies = Object.entries(operation.responses);
    for (const [status, reply] of replies.filter(([status]) => status < 400)) {
      parts.push(element("h4", {}, `${status} · ${reply.description}`));
      for (const [name, header] of Object.entries(reply.headers ?? {})) {
        parts.push(element("p", {}, element("code", {}, name), ` ${header.description}`));
      }
      parts.push(...this.body(reply.content ?? {}));
    }
    const failures = replies
      .filter(([status]) => status >= 400)
      .map(([status, reply]) => [element("span", { class: "status-bad" }, status), inline(reply.description)]);
    if (failures.length) {
      parts.push(element("details", {}, element("summary", {}, "Errors"), table(["Status", ""], failures)));
    }
    return element("article", { id: operation.operationId }, ...parts);
  }

  errors() {
    const rows = this.document["x-errors"].map((one) => [
      element("code", {}, one.code),
      String(one.status),
      one.sentence,
      one.retryable ? (one.retry_after_s ? `after ${one.retry_after_s} s, or Retry-After` : "yes") : "no",
    ]);
    return table(["Code", "Status", "What is said", "Ask again"], rows);
  }

  render(main, contents) {
    main.append(element("h1", {}, "HTTP interface"), ...paragraphs(this.document.info.description));
    for (const { name } of this.document.tags) {
      const links = element("ul");
      const heading = element("h2", {}, name);
      main.append(heading);
      for (const [path, methods] of Object.entries(this.document.paths)) {
        for (const method of METHODS.filter((one) => methods[one]?.tags.includes(name))) {
          const operation = methods[method];
          main.append(this.operation(method, path, operation));
          links.append(element("li", {}, element("a", { href: `#${operation.operationId}` }, operation.summary)));
        }
      }
      contents.append(element("h2", {}, name), links);
    }
    main.append(element("h2", { id: "errors" }, "Errors"), this.errors());
    contents.append(element("h2", {}, element("a", { href: "#errors" }, "Errors")));
  }
}

const main = document.getElementById("main");
const waiting = document.getElementById("waiting");
try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`openapi.json answered ${response.status}`);
  new Page(await response.json()).render(main, document.getElementById("contents"));
  waiting.remove();
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
} catch (error) {
  waiting.textContent = `The description could not be loaded: ${error.message}`;
}
