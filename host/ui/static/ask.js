// Agents asked, as a conversation. What is under way goes on while other views are looked at, and ends with the page.

import { lines, part, post } from "./api.js";
import { fill, h, labelled } from "./dom.js";
import { Turn } from "./turn.js";

const talks = new Map(); // by agent

export function askView(host, name, signal) {
  const body = h("div", { class: "ask" });
  let shown = null;
  host.listen((now) => {
    const agent = now.agents.find((one) => one.name === name) ?? (name ? null : now.agents[0]);
    if (shown === (agent?.name ?? "") && shown !== "") return talks.get(shown).about(agent, now);
    shown = agent?.name ?? "";
    if (!agent) return fill(body, h("p", { class: "empty" }, name ? `There is no agent ${name}.` : "There is nothing under agents: in the YAML."));
    if (!talks.has(agent.name)) talks.set(agent.name, new Talk(agent.name));
    const talk = talks.get(agent.name);
    talk.about(agent, now);
    const others = now.agents.length > 1 && h("nav", { class: "tabs", "aria-label": "Agents" },
      now.agents.map((one) => h("a", { href: `#/ask/${part(one.name)}`, "aria-current": one.name === agent.name && "page" }, one.title)));
    fill(body, others, talk.element);
    // Once it is in the page; a phone would open its keyboard over it.
    if (!matchMedia("(pointer: coarse)").matches) queueMicrotask(() => talk.question.focus({ preventScroll: true }));
  }, signal);
  return { title: "Ask", element: h("section", { class: "narrow" }, body) };
}

class Talk {
  constructor(agent) {
    this.agent = agent;
    this.key = "";
    this.stopping = null;
    this.turns = h("div", { class: "turns" });
    this.head = h("div", { class: "head" });
    this.llm = h("select", {}, h("option", { value: "" }, "the agent's own"));
    this.approve = h("input", { type: "checkbox", id: `approve-${agent}` });
    this.question = h("textarea", { rows: "2", maxlength: "100000", placeholder: "Ask something", "aria-label": "Your question",
      onkeydown: (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && this.ask(event) });
    this.send = h("button", { type: "submit", class: "main" }, "Ask");
    this.stop = h("button", { type: "button", hidden: true, onclick: () => this.stopping?.abort() }, "Stop");
    this.anew = h("button", { type: "button", onclick: () => this.begin() }, "New conversation");
    this.element = h("div", {}, this.head, this.turns,
      h("form", { class: "composer", onsubmit: (event) => this.ask(event) }, this.question,
        h("div", { class: "row" }, this.send, this.stop, this.anew, h("span", { class: "grow" }),
          h("span", { class: "check" }, this.approve, h("label", { for: this.approve.id }, "Ask me before each tool call")),
          this.llms = labelled("Model", this.llm))));
    this.known = "";
  }

  about(agent, now) {
    const known = JSON.stringify([agent, now.llms]);
    if (known === this.known) return;
    this.known = known;
    const facts = [agent.strategy ? `reasons with ${agent.strategy}` : "a plain tool loop", `llm ${agent.llm}`,
      agent.tools.length > 0 && `tools ${agent.tools.join(", ")}`, agent.database && `documents ${agent.database}`];
    fill(this.head, h("h1", {}, agent.title), agent.description && h("p", {}, agent.description), h("p", { class: "facts" }, facts.filter(Boolean).join(" · ")));
    const chosen = this.llm.value;
    fill(this.llm, h("option", { value: "" }, agent.llm), now.llms.filter((one) => one !== agent.llm).map((one) => h("option", { value: one }, one)));
    this.llm.value = now.llms.includes(chosen) ? chosen : "";
    this.llms.hidden = now.llms.length < 2;
  }

  begin() {
    this.stopping?.abort();
    this.key = "";
    fill(this.turns);
    this.question.focus();
  }

  async ask(event) {
    event.preventDefault();
    const question = this.question.value.trim();
    if (this.stopping || !question) return;
    let run = "";
    const turn = new Turn(question, (action, allowed, for_all, reason) => post(`runs/${part(run)}/decide`, { action, allowed, for_all, reason }));
    this.turns.append(turn.element);
    const stopping = (this.stopping = new AbortController());
    this.question.value = "";
    this.send.disabled = true;
    this.stop.hidden = false;
    follow(turn.element);
    let over = false;
    try {
      const body = { question, llm: this.llm.value, talk: this.key, approve: this.approve.checked };
      for await (const item of lines(`agents/${part(this.agent)}/ask`, body, stopping.signal)) {
        const atEnd = isAtEnd();
        if (item.event === "Began") {
          run = item.run;
          this.key = item.talk;
        }
        over ||= ["Done", "Failed"].includes(item.event);
        turn.see(item);
        if (atEnd) follow(turn.element);
      }
      if (!over) turn.see({ event: "Failed", message: "The run ended without an answer; `serve` says why." });
    } catch (error) {
      turn.see(error.name === "AbortError" ? { event: "Stopped" } : { event: "Failed", message: error.message });
    } finally {
      if (this.stopping === stopping) this.stopping = null;
      this.send.disabled = false;
      this.stop.hidden = true;
    }
  }
}

const isAtEnd = () => window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 80;
const follow = (element) => element.isConnected && window.scrollTo(0, document.documentElement.scrollHeight);
