// Elements from text. Nothing here, nor anywhere in the page, reads a text as HTML.

// What cannot be seen, or would turn the text around it: shown by its number, as shared/visible.py does.
const UNSEEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** The nodes of a text. */
export function shown(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(UNSEEN)) {
    nodes.push(text.slice(end, match.index), mark(match[0]));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

function mark(character) {
  const element = document.createElement("span");
  element.className = "unseen";
  element.textContent = "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return element;
}

/** h("p", {class: "note", onclick: go}, "text", element, [more], null) */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return add(element, children);
}

export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    if (child instanceof Node) element.append(child);
    else element.append(...shown(String(child)));
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Calls `render` with a value that is other than the last: what stays is not drawn anew, and can be selected. */
export function onChange(render) {
  let last;
  return (value) => {
    const now = JSON.stringify(value);
    if (now !== last) render(value);
    last = now;
  };
}

/** Tells those who do not see the page. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

export const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function seconds(value) {
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

let ids = 0;
export const newId = () => `id-${++ids}`;

/** A label with its control. */
export function labelled(text, control, note) {
  control.id ||= newId();
  return h("div", { class: "field" }, h("label", { for: control.id }, text), control, note && h("p", { class: "note" }, note));
}

export function copyButton(text) {
  const button = h("button", { type: "button", class: "small", onclick: copy }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }
  return button;
}
