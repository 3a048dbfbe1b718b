"""The official SDK's stream helper, run on the same behaviours: the README's table says where it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import hector_plugins_pb2_grpc as rpc
import openai
import pytest

from tests.llm_endpoint import BEHAVIOURS, POEM, Endpoint
from tests.llm_tools import WEATHER, started, stream, stub_of, text_of
from tests.servers import ROOT

# What is in the table: the behaviour, and what a good client makes of it.
CUT = "the text, then an error"
ROWS = {
    **dict.fromkeys(
        [
            "comments", "empty-data", "pings", "no-done", "no-finish", "no-last-blank", "crlf", "no-blank-lines",
            "json-lines", "json-body", "null-content", "separators", "usage-on-every-chunk", "no-usage",
            "finish-on-every-chunk", "finish-on-reasoning", "choice-counts-up", "choice-one", "choice-two-texts",
            "repeats-message", "repeats-delta", "json-lines-separator", "two-in-one-event", "lost-line-end",
            "error-of-nothing", "endless-number", "usage-late", "thinks-twice", "thinks-mistral", "thinks-harmony",
            "spoken", "message-beside", "text-in-parts", "odd-fields", "cumulative", "late-line-end",
        ],
        "the text",
    ),
    **dict.fromkeys(
        [
            "cut-off", "cut-in-event", "reset", "error-in-stream", "error-event", "error-text", "error-object",
            "error-in-choice", "finish-null-text", "finish-on-every-chunk-reset", "finish-on-first-chunk-reset",
            "json-lines-broken", "json-lines-cut", "error-over-lines", "error-in-delta", "error-plain",
            "error-words-between", "error-finish",
        ],
        CUT,
    ),
    **dict.fromkeys(["page", "error-200", "nothing", "unread", "done-only", "image-only", "base-resp"], "an error"),
    **dict.fromkeys(
        [
            "tool", "tool-no-index", "tool-no-id", "tool-equal-ids", "tool-repeated-names", "tool-object",
            "tool-one-function", "tool-index-zero", "finish-before-tool", "choice-spread", "repeats-calls",
            "completes-message", "call-old-and-new", "call-new-ids", "call-split-index", "call-object-then-text",
            "call-empty-object-first", "call-places", "call-twice", "call-twice-encoded", "call-twice-no-id",
            "call-under-each-index", "large-arguments", "written-hermes", "call-beside", "call-in-parts",
        ],
        "the calls",
    ),
}  # fmt: skip
TEXTS = {
    **dict.fromkeys(["separators", "json-lines-separator"], "a\u2028b\u0085c"),
    **dict.fromkeys(["finish-on-reasoning", "thinks-twice", "thinks-mistral", "thinks-harmony"], "Four."),
    "repeats-delta": f"{POEM} ",
    "cumulative": POEM,
}
ONE_CALL = (
    "tool", "tool-repeated-names", "tool-object", "finish-before-tool", "repeats-calls", "call-old-and-new",
    "call-new-ids", "call-object-then-text", "call-empty-object-first", "call-twice", "call-twice-encoded",
    "call-twice-no-id", "call-under-each-index", "written-hermes",
)  # fmt: skip
CALLS = {name: ["Rome"] for name in ONE_CALL} | {"large-arguments": ["x" * 730_000] * 3}


@dataclass(frozen=True)
class Outcome:
    text: str
    calls: tuple[tuple[str, str, str], ...]  # id, name, arguments
    failed: bool


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint, "--max-retries", "0") as plugin:
        yield stub_of(plugin)


def ours(stub: rpc.LLMProviderStub, model: str) -> Outcome:
    messages: list[object] = []
    failed = False
    try:
        stream(stub, model, messages, tools=[WEATHER])  # type: ignore[arg-type]
    except grpc.RpcError:
        failed = True
    calls = messages[-1].tool_calls if messages and not failed else ()  # type: ignore[attr-defined]
    return Outcome(text_of(messages), tuple((call.id, call.name, call.arguments_json) for call in calls), failed)  # type: ignore[arg-type]


def theirs(endpoint: Endpoint, model: str) -> Outcome:
    """By `client.chat.completions.stream`, which puts a reply together from its chunks."""
    parameters = json.loads(WEATHER.parameters_json)
    text, failed = "", False
    calls: tuple[tuple[str, str, str], ...] = ()
    with openai.OpenAI(api_key="none", base_url=endpoint.url, max_retries=0) as client:
        try:
            with client.chat.completions.stream(
                model=model,
                messages=[{"role": "user", "content": "Hi"}],
                tools=[{"type": "function", "function": {"name": "weather", "parameters": parameters}}],
            ) as reading:
                for event in reading:
                    if event.type == "content.delta":
                        text += event.delta
                made = reading.get_final_completion().choices[0].message.tool_calls or []
                calls = tuple((call.id, call.function.name, call.function.arguments) for call in made)
        except Exception:
            failed = True
    return Outcome(text, calls, failed)


def verdict(model: str, got: Outcome) -> str:
    """What is to be said of it in the table."""
    wanted = ROWS[model]
    if wanted == "an error":
        return "an error" if got.failed else "a success"
    if wanted == "the calls":
        if got.failed:
            return "fails"
        cities = CALLS.get(model, ["Rome", "Oslo"])
        right = [(name, parsed(arguments)) for _, name, arguments in got.calls] == [
            ("weather", {"city": city}) for city in cities
        ]
        unique = len({id_ for id_, _, _ in got.calls if id_}) == len(cities)
        return "the calls" if right and unique else "wrong calls" if not right else "no ids of their own"
    text = TEXTS.get(model, "Hel" if wanted == CUT else "Hello")
    if wanted == CUT:
        return (CUT if got.text == text else "an error, no text") if got.failed else "a success"
    return "fails" if got.failed else "the text" if got.text == text else "another text"


def parsed(arguments: object) -> object:
    """Of a call; None where they are not JSON in a text."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else None
    except ValueError:
        return None


def row(model: str, own: str, other: str) -> str:
    what = " ".join((BEHAVIOURS[model].__doc__ or "").split()).rstrip(".")
    return f"| {what} | {own} | {other if own == other else f'**{other}**'} |"


# Their silence is waited for.
_SLOW = ("finish-on-every-chunk", "finish-on-reasoning", "finish-before-tool", "late-line-end")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the package's own, of arguments as an object
@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=pytest.mark.slow if model in _SLOW else ()) for model in ROWS]
)
def test_the_table_of_the_readme(stub: rpc.LLMProviderStub, endpoint: Endpoint, model: str) -> None:
    """Ours does what a good client does, and the README's row says of both what they did just now."""
    own, other = verdict(model, ours(stub, model)), verdict(model, theirs(endpoint, model))
    assert own == ROWS[model]
    assert row(model, own, other) in (ROOT / "plugins/llm_openai/README.md").read_text(encoding="utf-8").splitlines()


def test_the_table_has_no_other_rows() -> None:
    """Every row of the README's table is one of these behaviours."""
    text = (ROOT / "plugins/llm_openai/README.md").read_text(encoding="utf-8")
    section = text.partition("## What servers do")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) == len(ROWS) + 1
