// The plugins: all of them, and one with its RPCs, its log and its settings.

import { get, lines, part } from "./api.js";
import { callView } from "./call.js";
import { count, fill, h, onChange } from "./dom.js";

const KINDS = {
  llm_provider: "Language model",
  database_provider: "Vector database",
  embedder_provider: "Embedder",
  tool_provider: "Tools",
  reasoning_strategy: "Reasoning",
  plugin: "Plugin",
};
const MOST_LINES = 5000;

export function statusMark(status) {
  const kind = status === "SERVING" ? "good" : ["starting", "loading", "reloading"].includes(status) ? "soon" : "bad";
  return h("span", { class: `status ${kind}` }, status.toLowerCase().replaceAll("_", " "));
}

export function pluginsView(host, signal) {
  const list = h("ul", { class: "cards" });
  const draw = onChange((plugins) => {
    const focused = document.activeElement?.closest?.(".cards a")?.getAttribute("href");
    fill(list, plugins.map(card));
    if (plugins.length === 0) fill(list, h("li", { class: "empty" }, "There is no plugin in the YAML."));
    if (focused) [...list.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  });
  host.listen((now) => draw(now.plugins), signal);
  return { title: "Plugins", element: h("section", {}, h("h1", {}, "Plugins"), list) };
}

function card(plugin) {
  const facts = [plugin.address, plugin.pid && `pid ${plugin.pid}`, plugin.restarts > 0 && count(plugin.restarts, "restart")];
  return h("li", { class: "card" },
    h("a", { href: `#/plugins/${part(plugin.name)}` },
      h("span", { class: "kind" }, KINDS[plugin.kind] ?? plugin.kind),
      h("strong", {}, plugin.name),
      statusMark(plugin.status)),
    h("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    plugin.cause && h("p", { class: "cause" }, plugin.cause));
}

export function pluginView(host, name, tab, rest, signal) {
  const head = h("div", { class: "head" });
  const draw = onChange((plugin) => {
    fill(head, h("h1", {}, name), plugin ? statusMark(plugin.status) : h("span", { class: "status bad" }, "not there"),
      plugin && h("p", { class: "facts" }, [KINDS[plugin.kind] ?? plugin.kind, plugin.address].filter(Boolean).join(" · ")),
      plugin?.cause && h("p", { class: "cause" }, plugin.cause));
  });
  host.listen((now) => draw(now.plugins.find((one) => one.name === name) ?? null), signal);
  const link = (key, text) => h("a", { href: `#/plugins/${part(name)}/${key}`, "aria-current": tab === key && "page" }, text);
  const body = { log: logView, settings: settingsView }[tab] ?? callView;
  return {
    title: name,
    element: h("section", {},
      h("p", { class: "back" }, h("a", { href: "#/plugins" }, "← Plugins")),
      head,
      h("nav", { class: "tabs", "aria-label": `Of ${name}` }, link("call", "Call"), link("log", "Log"), link("settings", "Settings")),
      body(name, signal, rest)),
  };
}

function logView(name, signal) {
  const log = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": `Log of ${name}` });
  const filter = h("input", { type: "search", placeholder: "Only lines with …", "aria-label": "Only lines with", oninput: sift });
  const note = h("p", { class: "note" }, "Waiting for its first line.");
  function fits(element) {
    element.hidden = !element.textContent.toLowerCase().includes(filter.value.toLowerCase());
  }
  function sift() {
    for (const element of log.children) fits(element);
  }
  (async () => {
    try {
      for await (const { line } of lines(`plugins/${part(name)}/log`, undefined, signal)) {
        const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        const level = /\b(ERROR|CRITICAL|Traceback)\b/.test(line) ? "error" : /\bWARN(ING)?\b/.test(line) ? "warning" : "";
        const element = h("div", { class: `line ${level} ${line.startsWith("host: ") ? "host" : ""}` }, line);
        fits(element);
        log.append(element);
        if (log.childElementCount > MOST_LINES) log.firstChild.remove();
        if (atEnd) log.scrollTop = log.scrollHeight;
        fill(note, "New lines appear as they are written.");
      }
    } catch (error) {
      if (error.name !== "AbortError") fill(note, error.message);
    }
  })();
  return h("div", { class: "panel" }, h("div", { class: "row" }, filter, note), log);
}

function settingsView(name, signal) {
  const body = h("div", { class: "panel" }, h("p", { class: "note loading" }, "…"));
  get(`plugins/${part(name)}/settings`, signal).then(
    (settings) => {
      const { config, env, security, line, ...start } = settings;
      fill(body,
        h("p", { class: "note" }, line ? `As they stand in the YAML, from line ${line} on. ` : "", "Secrets are masked; what refers to a variable is shown as that."),
        [["How it runs", start], ["Settings", config], ["Environment", env], ["Security", security]].map(([title, values]) =>
          Object.keys(values).length > 0 && [h("h2", {}, title), table(values)]));
    },
    (error) => error.name !== "AbortError" && fill(body, h("p", { class: "cause" }, error.message)),
  );
  return body;
}

function table(values) {
  const text = (value) => (typeof value === "string" ? value || "(empty)" : JSON.stringify(value, null, 1));
  return h("dl", { class: "pairs" }, Object.entries(values).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, text(value)))));
}
