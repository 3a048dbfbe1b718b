// One question to an agent: its steps as they appear, then the answer and its sources. Also of a run that is over.

import { count, fill, h, newId, say, seconds } from "./dom.js";
import { prose } from "./prose.js";

export const tokens = (usage) => (usage?.total ? `${usage.total.toLocaleString("en")} tokens` : "tokens unknown");

export class Turn {
  /** `decide(action, allowed, forAll, reason)` tells the host what a person says of a call that waits. */
  constructor(question, decide = null) {
    this.decide = decide;
    this.steps = h("ol", { class: "steps" });
    this.answer = h("div", { class: "answer" });
    this.element = h("article", { class: "turn" }, h("h2", { class: "question" }, question), this.steps, this.answer);
    this.calls = new Map(); // by the action's id
    this.step = null;
  }

  see(event) {
    this[event.event]?.(event);
  }

  StepBegan({ number }) {
    const head = h("p", { class: "step-head" }, `Step ${number}`, h("span", { class: "working" }, " thinking …"));
    const thought = h("div", { class: "thought" });
    this.step = { head, thought, written: "", thinking: "", calls: h("div", {}), note: h("p", { class: "warning" }) };
    this.steps.append(h("li", {}, head, thought, this.step.calls));
    fill(this.answer);
    say(`Step ${number}`);
  }

  ThoughtDelta({ text }) {
    this.step.thinking += text;
    fill(this.step.thought, this.step.thinking);
  }

  AnswerDelta({ text }) {
    this.step.written += text;
    fill(this.answer, h("div", { class: "prose" }, this.step.written, h("span", { class: "caret", "aria-hidden": "true" })));
  }

  Waiting({ reason }) {
    this.step.written = this.step.thinking = "";
    fill(this.answer);
    fill(this.step.thought, `${reason}; trying again …`);
  }

  ActionAsked({ id, tool, arguments: given }) {
    if (this.step.written) {
      // It was no answer, since an action follows.
      this.step.thinking += this.step.written;
      this.step.written = "";
      fill(this.step.thought, this.step.thinking);
      fill(this.answer);
    }
    const outcome = h("span", { class: "working" }, "…");
    const result = h("div", {});
    const summary = h("summary", {}, h("strong", {}, tool), " ", h("code", {}, brief(given)), " ", outcome);
    const details = h("details", { class: "tool" }, summary, h("h3", {}, "Arguments"), h("pre", { tabindex: "0" }, pretty(given)), result);
    this.calls.set(id, { details, outcome, result, question: null });
    this.step.calls.append(details);
    say(`Calls ${tool}`);
  }

  ApprovalAsked(event) {
    const call = this.calls.get(event.id);
    if (!call || !this.decide) return;
    const reason = h("input", { type: "text", placeholder: "Why not? The model is told.", "aria-label": "Why not" });
    const answer = (allowed, forAll) => this.decide(event.id, allowed, forAll, reason.value).catch((error) => fill(problem, error.message));
    const problem = h("p", { class: "cause", role: "alert" });
    const id = newId();
    call.question = h("div", { class: "approval", role: "group", "aria-labelledby": id },
      h("p", { id }, "May ", h("strong", {}, event.tool), " be called with exactly this?",
        event.destructive ? h("strong", { class: "danger" }, " It may delete or overwrite.") : event.read_only ? " It says that it only reads." : ""),
      h("pre", { tabindex: "0" }, event.arguments),
      h("div", { class: "row" },
        h("button", { type: "button", class: "main", onclick: () => answer(true, false) }, "Allow"),
        h("button", { type: "button", onclick: () => answer(true, true) }, "Allow this tool from now on"),
        h("button", { type: "button", class: "danger", onclick: () => answer(false, false) }, "Deny"), reason),
      problem);
    call.details.after(call.question);
    fill(call.outcome, "waits for you");
    say(`${event.tool} waits for your consent`);
  }

  Decided({ id, allowed }) {
    const call = this.calls.get(id);
    call?.question?.remove();
    if (call) fill(call.outcome, allowed ? "allowed …" : "denied");
  }

  Observed({ id, content, is_error, denied, seconds: took }) {
    const call = this.calls.get(id);
    if (!call) return;
    call.question?.remove();
    call.outcome.className = denied || is_error ? "bad" : "good";
    fill(call.outcome, `${denied ? "✗ denied" : is_error ? "✗ failed" : "✓"} ${seconds(took)}`);
    fill(call.result, h("h3", {}, "Result"), h("pre", { tabindex: "0" }, content));
    if (is_error) call.details.open = true;
  }

  StepEnded({ number, thought, note, usage, seconds: took }) {
    const facts = [seconds(took), usage && tokens(usage)].filter(Boolean).join(" · ");
    fill(this.step.head, `Step ${number} `, h("small", {}, facts));
    fill(this.step.thought, thought);
    if (note) this.step.calls.after(h("p", { class: "warning" }, note));
  }

  Done(event) {
    this.end();
    const sources = new Map(event.citations.map((one) => [one.number, source(one)]));
    const cite = (number) => {
      const target = sources.get(number);
      return target && h("button", { type: "button", class: "cite", "aria-label": `Source ${number}`, onclick: () => reveal(target) }, String(number));
    };
    fill(this.answer, prose(event.answer, cite),
      event.unknown_citations.length > 0 && h("p", { class: "warning" }, `It cites ${event.unknown_citations.map((n) => `[${n}]`).join(", ")}, which is no passage that it was given.`),
      event.unfound_quotes.map((quote) => h("p", { class: "warning" }, `Not word for word in what it cites: “${quote}”`)),
      sources.size > 0 && [h("h3", {}, "Sources"), ...sources.values()],
      h("p", { class: "facts" }, [
        event.stop_reason === "ANSWERED" ? "answered" : `ended at a limit: ${event.stop_reason.toLowerCase().replaceAll("_", " ")}`,
        count(event.steps, "step"), count(event.tool_calls, "tool call"), tokens(event.usage), seconds(event.seconds)].join(" · ")));
    say("The answer is there.");
  }

  Failed({ message }) {
    this.end();
    fill(this.answer, h("p", { class: "cause", role: "alert" }, message));
  }

  Stopped() {
    this.end();
    const written = this.step?.written;
    fill(this.answer, written && h("div", { class: "prose" }, written), h("p", { class: "facts" }, "stopped"));
  }

  /** Nothing is under way any more. */
  end() {
    for (const call of this.calls.values()) {
      call.question?.remove();
      if (call.outcome.className === "working") fill(call.outcome, "not ended");
    }
    for (const mark of this.steps.querySelectorAll(".step-head .working")) mark.remove();
  }
}

function source(citation) {
  return h("details", { class: "source" },
    h("summary", {}, h("span", { class: "rank" }, citation.number), " ", citation.place, citation.heading && h("span", { class: "heading" }, ` ${citation.heading}`), " ",
      h("span", { class: "score" }, citation.score.toFixed(2))),
    citation.quotes.map((quote) => h("blockquote", {}, quote)),
    h("pre", { class: "prose", tabindex: "0" }, citation.text));
}

function reveal(details) {
  details.open = true;
  details.querySelector("summary").focus();
  details.scrollIntoView({ block: "nearest" });
}

function brief(json) {
  const text = json.replace(/\s+/g, " ");
  return text.length > 120 ? text.slice(0, 120) + " …" : text;
}

function pretty(json) {
  if (/\d{16}/.test(json)) return json; // what JavaScript's numbers cannot hold is shown as it came
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
