// A form for a message, made of what reflection says of it. A field that is left empty is not sent.

import { fill, h, newId } from "./dom.js";

/** `messages`: the fields of each kind of message, by name. `value`: what it begins with. Has `element` and `value()`,
    which throws a Mistake. */
export function messageForm(messages, name, value = {}) {
  const fields = (messages[name] ?? []).map((about) => ({ about, part: fieldOf(messages, about, value?.[about.name]) }));
  const element = h("div", { class: "message" }, fields.map(({ about, part }) => named(about, part)));
  if (fields.length === 0) fill(element, h("p", { class: "note" }, "It takes no fields."));
  return {
    element,
    value() {
      const entries = fields.map(({ about, part }) => [about.name, located(about.name, () => part.value())]);
      return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
    },
  };
}

export class Mistake extends Error {}

function located(name, read) {
  try {
    return read();
  } catch (error) {
    throw error instanceof Mistake ? new Mistake(`${name}: ${error.message}`.replace(/: (\w+): /, ".$1: ")) : error;
  }
}

function named(about, part) {
  const type = about.type === "map" ? `map to ${about.value.type}` : (about.repeated ? "list of " : "") + (about.message?.split(".").at(-1) ?? about.type);
  const hint = [type, about.oneof && `one of ${about.oneof}`].filter(Boolean).join(", ");
  if (!part.control) {
    return h("fieldset", {}, h("legend", {}, about.name, " ", h("small", {}, hint)), part.element);
  }
  part.control.id = newId();
  return h("div", { class: "field" }, h("label", { for: part.control.id }, about.name, " ", h("small", {}, hint)), part.element);
}

function fieldOf(messages, about, value) {
  if (about.type === "map") return mapField(messages, about, value);
  if (!about.repeated) return single(messages, about, value);
  return ["integer", "number"].includes(about.type) ? numbersField(value) : listField(messages, about, value);
}

function single(messages, about, value) {
  switch (about.type) {
    case "message":
      return insideField(messages, about, value);
    case "boolean":
      return choice(["true", "false"], value === undefined ? "" : String(value), (text) => text === "true");
    case "enum":
      return choice(about.values, value ?? "", (text) => text);
    case "integer":
      return text({ inputmode: "numeric" }, value, integer);
    case "number":
      return text({ inputmode: "decimal" }, value, number);
    case "json":
      return area(value === undefined ? "" : JSON.stringify(value, null, 1), about.hint, json);
    case "bytes":
      return text({ placeholder: about.hint }, value, (given) => given);
    default:
      return about.hint ? text({ placeholder: about.hint }, value, (given) => given) : area(value ?? "", "", (given) => given);
  }
}

function read(control, convert) {
  return () => (control.value === "" ? undefined : convert(control.value));
}

function text(attributes, value, convert) {
  const control = h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  control.value = value ?? "";
  return { element: control, control, value: read(control, convert) };
}

function area(value, hint, convert) {
  const control = h("textarea", { rows: "1", spellcheck: "false", placeholder: hint });
  control.value = value;
  return { element: control, control, value: read(control, convert) };
}

function choice(values, value, convert) {
  const control = h("select", {}, h("option", { value: "" }, "not set"), values.map((one) => h("option", { value: one }, one)));
  control.value = value;
  return { element: control, control, value: read(control, convert) };
}

function integer(given) {
  if (!/^\s*-?\d+\s*$/.test(given)) throw new Mistake(`${given} is no whole number`);
  return Number.isSafeInteger(Number(given)) ? Number(given) : given.trim();
}

function number(given) {
  if (/^\s*(NaN|-?Infinity)\s*$/.test(given)) return given.trim();
  if (given.trim() === "" || Number.isNaN(Number(given))) throw new Mistake(`${given} is no number`);
  return Number(given);
}

function json(given) {
  try {
    return JSON.parse(given);
  } catch (error) {
    throw new Mistake(`it is no JSON: ${error.message}`);
  }
}

/** A list of numbers, such as a vector, in one box. */
function numbersField(value) {
  return area(value === undefined ? "" : value.join(", "), "0.1, 0.2, 0.3", (given) =>
    given.replace(/^\s*\[|\]\s*$/g, "").split(/[\s,]+/).filter(Boolean).map(number));
}

/** A message inside a message: there once it is added, since such kinds can hold themselves. */
function insideField(messages, about, value) {
  const element = h("div", { class: "inside" });
  let form = null;
  function put(given) {
    form = messageForm(messages, about.message, given);
    fill(element, form.element, h("button", { type: "button", class: "small", onclick: takeOut }, `Leave ${about.name} out`));
  }
  function takeOut() {
    form = null;
    fill(element, h("button", { type: "button", class: "small", onclick: () => put({}) }, `Set ${about.name}`));
  }
  if (value === undefined) takeOut();
  else put(value);
  return { element, value: () => form?.value() };
}

function rows(element, adding, make, given) {
  const parts = [];
  const button = h("button", { type: "button", class: "small", onclick: () => put(undefined, true) }, adding);
  function put(value, focus) {
    const part = make(value);
    const row = h("div", { class: "item" }, part.element,
      h("button", { type: "button", class: "small", "aria-label": "Remove", title: "Remove", onclick: remove }, "✕"));
    function remove() {
      parts.splice(parts.indexOf(part), 1);
      row.remove();
      button.focus();
    }
    parts.push(part);
    button.before(row);
    if (focus) row.querySelector("input, textarea, select, button")?.focus();
  }
  element.append(button);
  given.forEach((value) => put(value, false));
  return parts;
}

function listField(messages, about, value) {
  const element = h("div", { class: "list" });
  const one = { ...about, repeated: false };
  const parts = rows(element, `Add to ${about.name}`, (given) => {
    if (about.type === "message") return messageForm(messages, about.message, given ?? {});
    const part = single(messages, one, given);
    part.control.setAttribute("aria-label", about.name);
    return part;
  }, value ?? []);
  const empty = about.type === "string" || about.type === "bytes" ? "" : undefined;
  return { element, value: () => (parts.length ? parts.map((part) => part.value() ?? empty).filter((item) => item !== undefined) : undefined) };
}

function mapField(messages, about, value) {
  const element = h("div", { class: "list" });
  const parts = rows(element, `Add to ${about.name}`, (given) => {
    const [key, inner] = given ?? ["", undefined];
    const name = h("input", { type: "text", placeholder: "key", "aria-label": `${about.name}: key`, autocomplete: "off" });
    name.value = key;
    const part = single(messages, about.value, inner);
    part.control?.setAttribute("aria-label", `${about.name}: value`);
    return { element: h("div", { class: "pair" }, name, part.element), value: () => [name.value, part.value()] };
  }, Object.entries(value ?? {}));
  return {
    element,
    value() {
      const entries = parts.map((part) => part.value()).map(([key, item]) => [key, item ?? (about.value.type === "string" ? "" : null)]);
      return entries.length ? Object.fromEntries(entries) : undefined;
    },
  };
}
