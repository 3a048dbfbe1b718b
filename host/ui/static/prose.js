// An answer as a person reads it: code, emphasis and citations are seen as such; all else is its own text.

import { h } from "./dom.js";

const FENCE = /^[ \t]*```[^\n]*\n?/m;
const INLINE = /(`[^`\n]{1,500}`|\*\*[^*\n]{1,500}\*\*|\[\d{1,3}(?:[ ,;–-]{1,3}\d{1,3}){0,20}\])/;

/** `cite(number)` gives what a citation leads to, or null. */
export function prose(text, cite = () => null) {
  return text.split(FENCE).map((piece, index) =>
    index % 2 ? h("pre", { class: "code", tabindex: "0" }, piece.replace(/\n$/, "")) : h("div", { class: "prose" }, piece.split("\n").map((line, n) => lineOf(line, n, cite))));
}

function lineOf(line, number, cite) {
  const heading = /^#{1,6} (.*)$/.exec(line);
  return [number > 0 && "\n", heading ? h("strong", {}, inline(heading[1], cite)) : inline(line, cite)];
}

function inline(text, cite) {
  return text.split(INLINE).map((piece, index) => {
    if (index % 2 === 0) return piece;
    if (piece.startsWith("`")) return h("code", {}, piece.slice(1, -1));
    if (piece.startsWith("**")) return h("strong", {}, piece.slice(2, -2));
    const known = [...piece.matchAll(/\d+/g)].map(([number]) => cite(Number(number)));
    return known.every(Boolean) ? known : piece;
  });
}
