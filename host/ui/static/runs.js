// The runs that were asked for here: all of them, and one with its timeline and what it was given.

import { get, part, post } from "./api.js";
import { count, fill, h, seconds } from "./dom.js";
import { tokens, Turn } from "./turn.js";

const failed = (place) => (error) => error.name !== "AbortError" && fill(place, h("p", { class: "cause", role: "alert" }, error.message));

export function runsView(signal) {
  const body = h("div", {}, h("p", { class: "note loading" }, "…"));
  get("runs", signal).then(({ runs }) => fill(body, runs.length === 0
    ? h("p", { class: "empty" }, "No run yet. What is asked under Ask is kept here.")
    : h("ul", { class: "cards runs" }, runs.map(card))), failed(body));
  return { title: "Runs", element: h("section", {}, h("h1", {}, "Runs"), body) };
}

function card(run) {
  const facts = [run.title, when(run.at), seconds(run.seconds), run.steps && count(run.steps, "step"), run.usage && tokens(run.usage)];
  return h("li", { class: "card" },
    h("a", { href: `#/runs/${part(run.run)}` }, h("strong", {}, run.question.length > 200 ? run.question.slice(0, 200) + " …" : run.question), ending(run)),
    h("p", { class: "facts" }, facts.filter(Boolean).join(" · ")));
}

function ending(run) {
  const isGood = run.end === "Done" && run.stop_reason === "ANSWERED";
  const text = run.end === "Done" ? run.stop_reason.toLowerCase().replaceAll("_", " ") : run.end.toLowerCase();
  return h("span", { class: `status ${isGood ? "good" : run.end === "Failed" ? "bad" : "soon"}` }, text);
}

const when = (at) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

export function runView(id, signal) {
  const body = h("div", {}, h("p", { class: "note loading" }, "…"));
  get(`runs/${part(id)}`, signal).then(({ summary, events }) => {
    const turn = new Turn(summary.question);
    for (const event of events) turn.see(event);
    if (summary.end === "Stopped") turn.see({ event: "Stopped" });
    fill(body,
      h("p", { class: "facts" }, [summary.title, when(summary.at), seconds(summary.seconds), summary.usage && tokens(summary.usage)].filter(Boolean).join(" · "), " ", ending(summary)),
      timeline(events, summary.seconds),
      turn.element,
      h("h2", {}, "What it was given"), inputs(summary),
      h("div", { class: "row" }, h("button", { type: "button", class: "danger", onclick: remove }, "Remove this run")));
  }, failed(body));
  async function remove() {
    try {
      await post(`runs/${part(id)}/remove`, {});
      location.hash = "#/runs";
    } catch (error) {
      failed(body)(error);
    }
  }
  return { title: "Run", element: h("section", { class: "narrow" }, h("p", { class: "back" }, h("a", { href: "#/runs" }, "← Runs")), body) };
}

function inputs(summary) {
  const entries = Object.entries({ agent: summary.agent, ...summary.input }).filter(([, value]) => value !== "" && value !== null && value?.length !== 0);
  return h("dl", { class: "pairs" }, entries.map(([key, value]) =>
    h("div", {}, h("dt", {}, key.replaceAll("_", " ")), h("dd", {}, Array.isArray(value) ? value.join(", ") : String(value)))));
}

/** A bar for each turn of the model and each call of a tool, on the time of the whole run. */
function timeline(events, whole) {
  const bars = [];
  let step = null;
  const calls = new Map();
  for (const event of events) {
    switch (event.event) {
      case "StepBegan":
        step = { what: `step ${event.number}`, kind: "model", from: event.at, to: null };
        bars.push(step);
        break;
      case "ActionAsked":
        if (step && step.to === null) step.to = event.at; // from here on it is the tools' time
        calls.set(event.id, { what: event.tool, kind: "call", from: event.at, to: null });
        bars.push(calls.get(event.id));
        break;
      case "Observed":
        if (calls.has(event.id)) calls.get(event.id).to = event.at;
        break;
      case "StepEnded":
        if (step && step.to === null) step.to = event.at;
        if (step) step.note = event.usage ? tokens(event.usage) : "";
    }
  }
  if (bars.length === 0) return null;
  const length = Math.max(whole, 0.001);
  return h("ol", { class: "timeline", "aria-label": "Timeline" }, bars.map((bar) => {
    const to = bar.to ?? whole;
    const mark = h("span", { class: `bar ${bar.kind}` });
    mark.style.marginLeft = `${(100 * bar.from) / length}%`;
    mark.style.width = `${Math.max(0.5, (100 * (to - bar.from)) / length)}%`;
    return h("li", {}, h("span", { class: "what" }, bar.what), h("span", { class: "track" }, mark), h("span", { class: "took" }, seconds(to - bar.from), bar.note && h("small", {}, ` ${bar.note}`)));
  }));
}
