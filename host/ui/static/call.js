// Any RPC of a plugin, called by hand: a form made of its reflection, or JSON; the replies as they come.

import { get, lines, part } from "./api.js";
import { copyButton, count, fill, h, labelled, say, seconds } from "./dom.js";
import { messageForm, Mistake } from "./form.js";

const drafts = new Map(); // what was typed, by plugin and RPC, as long as the page is open

export function callView(name, signal, rpc) {
  const list = h("div", { class: "rpcs" }, h("p", { class: "note loading" }, "Asking for its RPCs …"));
  const body = h("div", { class: "call" });
  const element = h("div", { class: `split ${rpc ? "chosen" : ""}` }, list, body);
  const failed = (place) => (error) => error.name !== "AbortError" && fill(place, h("p", { class: "cause" }, error.message));
  get(`plugins/${part(name)}/rpcs`, signal).then(({ services }) => {
    fill(list, services.map((service) => [
      h("h2", {}, service.name.split(".").at(-1)),
      h("ul", {}, service.rpcs.map((one) => h("li", {}, link(name, one, rpc)))),
    ]));
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }, failed(list));
  if (rpc) {
    fill(body, h("p", { class: "note loading" }, "…"));
    get(`plugins/${part(name)}/form/${rpc.split("/").map(part).join("/")}`, signal).then((about) => fill(body, callForm(name, about, signal)), failed(body));
  } else {
    fill(body, h("p", { class: "note" }, "Choose an RPC to call it by hand."));
  }
  return element;
}

function link(name, about, rpc) {
  const isStream = about.client_streaming || about.server_streaming;
  const href = `#/plugins/${part(name)}/call/${part(about.path)}`;
  return h("a", { href, title: about.signature, "aria-current": about.path === rpc && "page" }, about.name, isStream && h("small", {}, " stream"));
}

function callForm(name, about, signal) {
  const key = `${name}/${about.path}`;
  const replies = h("div", { class: "replies" });
  const place = h("div", {});
  const problem = h("p", { class: "cause", role: "alert" });
  const timeout = h("input", { type: "text", inputmode: "decimal", class: "short", value: "60" });
  const send = h("button", { type: "submit", class: "main" }, "Call");
  const stop = h("button", { type: "button", hidden: true, onclick: () => stopping?.abort() }, "Stop");
  let editor;
  let stopping = null;

  function edit(asJson, value) {
    editor = asJson ? jsonEditor(value) : formEditor(about, value);
    fill(place, editor.element);
    asForm.setAttribute("aria-pressed", String(!asJson));
    asText.setAttribute("aria-pressed", String(asJson));
  }
  function change(asJson) {
    try {
      edit(asJson, editor.value());
      fill(problem);
    } catch (error) {
      fill(problem, error.message);
    }
  }
  const asForm = h("button", { type: "button", onclick: () => change(false) }, "Form");
  const asText = h("button", { type: "button", onclick: () => change(true) }, "JSON");
  const example = () => edit(true, about.client_streaming ? [about.example] : about.example);
  const modes = h("div", { class: "row modes" },
    h("div", { class: "pressed", role: "group", "aria-label": "The request as" }, asForm, asText),
    h("button", { type: "button", onclick: example }, "Fill in an example"));
  edit(about.client_streaming, drafts.get(key) ?? (about.client_streaming ? [{}] : {}));

  async function call(event) {
    event.preventDefault();
    if (stopping) return;
    let request;
    try {
      request = editor.value();
    } catch (error) {
      fill(problem, error.message);
      return;
    }
    fill(problem);
    drafts.set(key, request);
    stopping = new AbortController();
    signal.addEventListener("abort", () => stopping?.abort());
    send.disabled = true;
    stop.hidden = false;
    const state = h("p", { class: "outcome" }, "Calling …");
    const list = h("div", {});
    fill(replies, state, list);
    const body = { rpc: about.path, request: JSON.stringify(request), seconds: Number(timeout.value) || 60 };
    try {
      for await (const item of lines(`plugins/${part(name)}/call`, body, stopping.signal)) {
        if (item.reply !== undefined) list.append(reply(item, about.server_streaming));
        else fill(state, outcome(item));
      }
    } catch (error) {
      fill(state, h("span", { class: "status bad" }, error.name === "AbortError" ? "stopped" : "not called"), " ",
        error.name === "AbortError" ? "The call was cancelled." : error.message);
    } finally {
      stopping = null;
      send.disabled = false;
      stop.hidden = true;
      say(state.textContent);
    }
  }

  const command = () => `python -m host try ${quoted(name)} ${about.path.split("/").at(-1)} ${quoted(JSON.stringify(editor.value()))}`;
  return [
    h("h2", { class: "rpc-name" }, about.path.split("/").at(-1)),
    h("p", { class: "signature" }, h("code", {}, about.signature)),
    h("form", { onsubmit: call, onkeydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && call(event) },
      modes, place, problem,
      h("div", { class: "row" }, send, stop, labelled("Seconds at most", timeout),
        h("span", { class: "grow" }), h("span", { class: "note" }, "As a command: "), copyButton(command))),
    replies,
  ];
}

function formEditor(about, value) {
  if (!about.client_streaming) return messageForm(about.messages, about.message, plain(value));
  const forms = [];
  const element = h("div", { class: "list" });
  const button = h("button", { type: "button", class: "small", onclick: () => put({}) }, "Add a message to the stream");
  function put(given) {
    const form = messageForm(about.messages, about.message, plain(given));
    forms.push(form);
    button.before(h("fieldset", {}, h("legend", {}, `Message ${forms.length}`), form.element));
  }
  element.append(button);
  (Array.isArray(value) ? value : [value]).forEach(put);
  return { element, value: () => forms.map((form) => form.value()) };
}

function plain(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Mistake("a request is a JSON object, such as {}");
  return value;
}

function jsonEditor(value) {
  const control = h("textarea", { class: "json", rows: "10", spellcheck: "false", "aria-label": "The request as JSON" });
  control.value = JSON.stringify(value, null, 2);
  return {
    element: control,
    value() {
      try {
        return JSON.parse(control.value || "{}");
      } catch (error) {
        throw new Mistake(`The request is no JSON: ${error.message}`);
      }
    },
  };
}

function reply(item, isStream) {
  return h("div", { class: "reply" }, h("div", { class: "tools" }, isStream && h("small", {}, `after ${seconds(item.seconds)}`), copyButton(() => item.reply)), h("pre", { tabindex: "0" }, item.reply));
}

function outcome(item) {
  const isGood = item.status === "OK" && !item.failed;
  return [
    h("span", { class: `status ${isGood ? "good" : "bad"}` }, item.status), " ",
    `in ${seconds(item.seconds)}`,
    item.replies > 1 ? `, ${count(item.replies, "reply", "replies")}` : "",
    item.left_out ? `, ${item.left_out} of them not shown` : "",
    item.message ? `: ${item.message}` : "",
    item.details?.length > 0 && h("pre", {}, item.details.join("\n")),
  ];
}

const quoted = (text) => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
