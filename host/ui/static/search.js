// The indexed documents, searched by meaning.

import { post } from "./api.js";
import { count, fill, h, labelled, say } from "./dom.js";

let last = { question: "", results: [] }; // shown again when one comes back to the view

export function searchView(host, signal) {
  const database = h("select", {});
  const question = h("input", { type: "search", required: true, maxlength: "10000", autocomplete: "off" });
  const limit = h("select", {}, [3, 5, 10, 20, 50].map((number) => h("option", { value: number, selected: number === 5 }, String(number))));
  const results = h("div", { class: "results" });
  const button = h("button", { type: "submit", class: "main" }, "Search");
  let searching = null;
  question.value = last.question;
  fill(results, last.results);
  host.listen((now) => {
    const names = now.databases.map((one) => one.name);
    if ([...database.options].map((option) => option.value).join() === names.join()) return;
    fill(database, names.map((name) => h("option", { value: name }, name)));
    if (names.length === 0) fill(results, h("p", { class: "empty" }, "There is nothing under databases: in the YAML."));
  }, signal);

  async function search(event) {
    event.preventDefault();
    searching?.abort();
    const mine = (searching = new AbortController());
    signal.addEventListener("abort", () => mine.abort());
    fill(results, h("p", { class: "note" }, "Searching …"));
    const asked = question.value;
    let found;
    try {
      const body = { database: database.value, question: asked, limit: Number(limit.value) };
      const { passages } = await post("search", body, mine.signal);
      found = passages.length ? passages.map((passage) => passageOf(passage, asked)) : [h("p", { class: "empty" }, "Nothing was found. `python -m host index DIR` fills the collection.")];
      say(count(passages.length, "passage"));
    } catch (error) {
      if (error.name === "AbortError") return;
      found = [h("p", { class: "cause", role: "alert" }, error.message)];
    }
    last = { question: asked, results: found };
    fill(results, found);
  }

  return {
    title: "Search",
    element: h("section", { class: "narrow" }, h("h1", {}, "Search"),
      h("form", { class: "search", role: "search", onsubmit: search },
        labelled("What to look for", question),
        h("div", { class: "row" }, labelled("In", database), labelled("Passages", limit), button)),
      results),
  };
}

function passageOf(passage, question) {
  return h("article", { class: "passage" },
    h("h2", {}, h("span", { class: "rank" }, passage.rank), " ", passage.place, " ", h("span", { class: "score", title: "Cosine, -1 to 1" }, passage.score.toFixed(3))),
    passage.heading && h("p", { class: "heading" }, passage.heading),
    h("pre", { class: "prose" }, marked(passage.text, question)));
}

/** With the words of the question marked. */
export function marked(text, question) {
  const words = new Set(question.toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) ?? []);
  return text.split(/([\p{L}\p{N}]{3,})/u).map((piece) => (words.has(piece.toLowerCase()) ? h("mark", {}, piece) : piece));
}
