"""A trace as one HTML page: nothing in it runs, and nothing is loaded.

There is no script at all. The policy in its head lets a browser take the one style sheet that is in the page, by its
hash, and nothing else, whatever a tool's result may hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import time
from collections.abc import Iterable, Iterator
from importlib import resources

from shared.visible import visible

from .trace import Call, Said, Step, Tokens, Trace, Turn

LONGEST = 200_000  # characters of one text that are shown

_STYLE = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def page(trace: Trace) -> str:
    """The whole page, which can be encoded as UTF-8."""
    return "\n".join(_page(trace)) + "\n"


def _page(trace: Trace) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">'
    yield f"<title>{html.escape(visible(trace.question[:80]))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<header>\n<h1>{_inline(trace.question)}</h1>"
    yield f"<p>{_facts(_of_the_run(trace))}</p>"
    if trace.context:
        yield _folded("Background that it was given", _block(trace.context))
    yield "</header>\n<main>"
    if trace.answer:
        early = "" if trace.stop_reason == "ANSWERED" else " early"
        yield f'<section class="answer{early}"><h2>Answer</h2>{_block(trace.answer)}</section>'
    if trace.steps:
        yield from _overview(trace)
    for step in trace.steps:
        yield from _step(step)
    yield "</main>\n</body>\n</html>"


# ---------------------------------------------------------------- the run


def _of_the_run(trace: Trace) -> Iterator[str]:
    if trace.done:
        yield f"ended: {trace.stop_reason.lower().replace('_', ' ') or 'for an unknown reason'}"
    else:
        yield "not ended"
    yield counted(len(trace.steps), "step")
    yield counted(trace.calls, "tool call")
    yield tokens_in_words(trace.tokens)
    yield seconds_in_words(trace.seconds)
    if trace.began:
        yield time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(trace.began))


def _overview(trace: Trace) -> Iterator[str]:
    """Each step as a row, its time as a bar behind those before it."""
    whole = sum(step.seconds for step in trace.steps) or 1.0
    yield '<section class="overview"><h2>Timeline</h2>'
    yield '<p class="key"><span class="model">model</span> <span class="tools">tools</span></p>'
    heads = "".join(f"<th>{head}</th>" for head in ("Step", "What", "Tokens", "Time", ""))
    yield f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>'
    before = 0.0
    for step in trace.steps:
        last = "answer" if step is trace.steps[-1] and trace.done else "thought"
        what = ", ".join(call.tool for call in step.calls) or last
        tokens = str(step.tokens.total) if step.tokens else "?"
        yield (
            f'<tr><td><a href="#step-{step.number}">{step.number}</a></td><td>{_inline(what[:300])}</td>'
            f"<td>{tokens}</td><td>{seconds_in_words(step.seconds)}</td><td>{_bar(before, step, whole)}</td></tr>"
        )
        before += step.seconds
    yield "</tbody>\n</table></div></section>"


def _bar(before: float, step: Step, whole: float) -> str:
    """Drawn in attributes, which need no leave of the policy as styles would."""
    tools = min(step.tool_seconds, step.seconds)
    parts = (("model", before, step.seconds - tools), ("tools", before + step.seconds - tools, tools))
    drawn = "".join(
        f'<rect class="{name}" x="{1000 * start / whole:.1f}" width="{max(1000 * length / whole, 2):.1f}" height="10"/>'
        for name, start, length in parts
        if length > 0
    )
    return f'<svg viewBox="0 0 1004 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


# ---------------------------------------------------------------- a step


def _step(step: Step) -> Iterator[str]:
    yield f'<article id="step-{step.number}">\n<h2>Step {step.number}</h2>'
    cut_short = "" if step.is_whole else "cut short"
    yield f"<p>{_facts([cut_short, tokens_in_words(step.tokens), seconds_in_words(step.seconds)])}</p>"
    if step.thought:
        yield f'<div class="thought">{_block(step.thought)}</div>'
    for call in step.calls:
        yield from _call(call)
    if step.note:
        yield f'<p class="note">{_inline(step.note)}</p>'
    if step.turns:
        yield _turns(step.turns)
    yield "</article>"


def _call(call: Call) -> Iterator[str]:
    outcome = outcome_of(call)
    facts = [outcome, seconds_in_words(call.seconds) if call.seconds is not None else "", f"id {call.id}"]
    yield f'<section class="call {outcome}">\n<h3><code>{_inline(call.tool)}</code></h3><p>{_facts(facts)}</p>'
    yield f"<h4>Arguments</h4>{_block(call.arguments)}"
    if call.result is not None:
        yield f"<h4>Result</h4>{_block(call.result) if call.result else '<p>empty</p>'}"
    yield "</section>"


def outcome_of(call: Call) -> str:
    """One word."""
    if call.result is None:
        return "unanswered"
    return "denied" if call.denied else "failed" if call.is_error else "done"


def _turns(turns: Iterable[Turn]) -> str:
    return "\n".join(_folded(_title(turn), "".join(_turn(turn))) for turn in turns)


def _title(turn: Turn) -> str:
    facts = ["What the model was asked and what it wrote", tokens_in_words(turn.tokens), seconds_in_words(turn.seconds)]
    return " · ".join(filter(None, [*facts, turn.finish.lower(), "it failed" if turn.error else ""]))


def _turn(turn: Turn) -> Iterator[str]:
    if turn.repeated:
        yield f"<p>{counted(turn.repeated, 'message')} as in the turn before, and then:</p>"
    for message in turn.messages:
        yield _message(message)
    if turn.tools:
        yield f"<p>Tools that it could call: {_inline(', '.join(turn.tools))}</p>"
    if turn.error:
        yield f'<h4>What went wrong</h4><p class="note">{_inline(turn.error)}</p>'
        return
    if turn.reasoning:
        yield f"<h4>Its reasoning</h4>{_block(turn.reasoning)}"
    yield f"<h4>Its reply</h4>{_block(turn.text) if turn.text else ''}{''.join(map(_block, turn.calls))}"


def _message(message: Said) -> str:
    name = f" <code>{_inline(message.name)}</code>" if message.name else ""
    content = _block(message.content) if message.content or not message.calls else ""
    return f"<h4>{_inline(message.role)}{name}</h4>{content}{''.join(map(_block, message.calls))}"


# ---------------------------------------------------------------- texts


def _block(text: str) -> str:
    more = f"\n… {len(text) - LONGEST:,} more characters, which --save keeps" if len(text) > LONGEST else ""
    return f'<pre dir="auto" tabindex="0">{_escaped(text[:LONGEST])}</pre>' + (f"<p>{more}</p>" if more else "")


def _inline(text: str) -> str:
    return f"<bdi>{_escaped(text[:LONGEST])}</bdi>"


def _escaped(text: str) -> str:
    """Names of characters that cannot be seen are set apart from text that reads the same."""
    return html.escape(visible(text, "\x00{}\x01")).replace("\x00", '<span class="unseen">').replace("\x01", "</span>")


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{_inline(title)}</summary>{content}</details>"


def _facts(facts: Iterable[str]) -> str:
    return " · ".join(html.escape(visible(fact)) for fact in facts if fact)


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def tokens_in_words(tokens: Tokens | None) -> str:
    if tokens is None:
        return "tokens unknown"
    return f"{tokens.prompt:,} + {tokens.completion:,} tokens"


def seconds_in_words(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
