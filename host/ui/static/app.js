// Which view is shown, and the state of the host that all of them share.

import { get, takeToken } from "./api.js";
import { askView } from "./ask.js";
import { fill, h, onChange } from "./dom.js";
import { pluginView, pluginsView } from "./plugins.js";
import { runView, runsView } from "./runs.js";
import { searchView } from "./search.js";

const EVERY_MS = 2000;
const main = document.getElementById("main");
const notice = document.getElementById("notice");

/** `now` is what the host said last; whoever listens is told each time. */
const host = {
  now: null,
  listeners: new Set(),
  listen(listener, signal) {
    this.listeners.add(listener);
    signal.addEventListener("abort", () => this.listeners.delete(listener));
    if (this.now) listener(this.now);
  },
};

const notify = onChange(([first, ...rest]) =>
  fill(notice, first && h("p", {}, first), rest.length > 0 && h("ul", {}, rest.map((text) => h("li", {}, text)))));

let leaving = new AbortController();

function show() {
  leaving.abort();
  leaving = new AbortController();
  const [section = "plugins", ...rest] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded);
  for (const link of document.querySelectorAll("#sections a")) {
    if (link.getAttribute("href") === "#/" + section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const { title, element } = view(section, rest, leaving.signal);
  document.title = `${title} · Hector`;
  fill(main, element);
  window.scrollTo(0, 0);
}

function view(section, rest, signal) {
  switch (section) {
    case "ask":
      return askView(host, rest[0], signal);
    case "search":
      return searchView(host, signal);
    case "runs":
      return rest[0] ? runView(rest[0], signal) : runsView(signal);
    default:
      return rest[0] ? pluginView(host, rest[0], rest[1] ?? "call", rest.slice(2).join("/"), signal) : pluginsView(host, signal);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function look() {
  if (document.hidden && host.now) return;
  try {
    host.now = await get("overview");
  } catch (error) {
    notify([error.message]);
    document.body.classList.add("away");
    return;
  }
  document.body.classList.remove("away");
  fill(document.getElementById("file"), h("bdi", {}, host.now.config));
  const mistakes = host.now.mistakes;
  notify(mistakes.length > 0 ? ["The YAML has mistakes; everything runs on as before.", ...mistakes] : []);
  for (const listener of host.listeners) listener(host.now);
}

async function keepLooking() {
  for (;;) {
    await look();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

takeToken();
document.getElementById("skip").addEventListener("click", () => main.focus());
document.addEventListener("visibilitychange", look);
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) takeToken();
  show();
});
show();
keepLooking();
