"""The LLM and the tools of reasoning_react over real sockets, before providers that fail in every way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest

from plugins.reasoning_react.engine.chat import (
    Abilities,
    Delta,
    Finish,
    Message,
    Tool,
    ToolCall,
    Turn,
    TurnRequest,
    Usage,
)
from plugins.reasoning_react.engine.ports import LLMFailed, Outcome
from plugins.reasoning_react.providers import abilities as abilities_module
from plugins.reasoning_react.providers import llm as llm_module
from plugins.reasoning_react.providers import provider as provider_module
from plugins.reasoning_react.providers import tools as tools_module
from plugins.reasoning_react.providers.calling import who
from plugins.reasoning_react.providers.llm import GrpcLLM
from plugins.reasoning_react.providers.tools import GrpcTools
from shared import logs
from shared.client import Address
from shared.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    PermissionDenied,
    PluginError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from shared.repeats import OutcomeUnknown
from shared.units import Secret
from tests.loops import in_loop
from tests.react_peers import LLM, Peer, Tools, gave, peer, said
from tests.servers import SECONDS

ASK = TurnRequest((Message("user", "Hi"),))
WEATHER = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
WITH_TOOLS = TurnRequest((Message("user", "Hi"),), tools=(WEATHER,))
HARMLESS = [{"read_only": True}, {"idempotent": True}]


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is waited for as long as it takes, where a test does not say otherwise: a machine is busy."""
    for module in (abilities_module, tools_module):
        monkeypatch.setattr(module, "_AGAIN_SECONDS", SECONDS)


@asynccontextmanager
async def asking(servicer: LLM) -> AsyncIterator[GrpcLLM]:
    async with peer(servicer) as running:
        llm = GrpcLLM("main", Address(running.address))
        try:
            yield llm
        finally:
            await llm.close()


async def turn_of(llm: GrpcLLM, request: TurnRequest = ASK) -> tuple[list[Delta], Turn]:
    items = [item async for item in llm.turn(request)]
    *deltas, last = items
    assert isinstance(last, Turn)
    return [item for item in deltas if isinstance(item, Delta)], last


async def failure_of(llm: GrpcLLM, request: TurnRequest = ASK) -> LLMFailed:
    with pytest.raises(LLMFailed) as raised:
        await turn_of(llm, request)
    return raised.value


# ---------------------------------------------------------------- the model


@in_loop
async def test_a_turn_as_it_comes_and_whole() -> None:
    """A turn's pieces come as they are written, then all of it: text, reasoning, calls, usage, what is opaque."""
    call = pb.ToolCall(id="c1", name="weather", arguments_json='{"city": "Oslo"}', opaque=b"\x00sig")
    usage = pb.TokenUsage(prompt_tokens=5, completion_tokens=3, total_tokens=8, reasoning_tokens=2, cached_tokens=1)
    servicer = LLM(
        [
            pb.StreamTextResponse(reasoning="Hm. "),
            pb.StreamTextResponse(text="Let me "),
            pb.StreamTextResponse(tool_call_delta=pb.ToolCallDelta(id="c1", name="weather")),
            pb.StreamTextResponse(text="look."),
            pb.StreamTextResponse(
                done=True,
                tool_calls=[call],
                finish_reason=pb.FINISH_REASON_TOOL_CALLS,
                usage=usage,
                opaque=b"turn",
                dropped_params=["stop"],
                refusal="no",
            ),
        ]
    )
    async with asking(servicer) as llm:
        deltas, turn = await turn_of(llm, WITH_TOOLS)
    assert deltas == [Delta(reasoning="Hm. "), Delta("Let me "), Delta("look.")]
    assert turn == Turn(
        "Let me look.",
        "Hm. ",
        (ToolCall("c1", "weather", '{"city": "Oslo"}', b"\x00sig"),),
        Finish.TOOL_CALLS,
        Usage(5, 3, 8, 2, 1),
        "no",
        b"turn",
        ("stop",),
    )


@in_loop
async def test_all_of_a_request_arrives() -> None:
    """Messages with calls, results, reasoning and what is opaque, tools, and every option reach the provider; an option
    that is not set is not sent, and a temperature of 0 is."""
    messages = (
        Message("system", "Be brief."),
        Message("assistant", "", (ToolCall("c1", "weather", "{}", b"sig"),), reasoning="Hm.", opaque=b"turn"),
        Message("tool", "rain", tool_call_id="c1", name="weather"),
    )
    request = TurnRequest(messages, (WEATHER,), "big", 0.0, ("\nObservation:",))
    servicer = LLM(said("ok"))
    async with asking(servicer) as llm:
        await turn_of(llm, request)
        await turn_of(llm, request)
        await turn_of(llm)
    sent, again, bare = servicer.requests
    assert sent == again
    assert (sent.model, sent.options.stop) == ("big", ["\nObservation:"])
    assert sent.options.HasField("temperature")
    assert [(one.role, one.content, one.tool_call_id, one.name) for one in sent.messages] == [
        ("system", "Be brief.", "", ""),
        ("assistant", "", "", ""),
        ("tool", "rain", "c1", "weather"),
    ]
    assistant = sent.messages[1]
    assert (assistant.reasoning, assistant.opaque) == ("Hm.", b"turn")
    assert assistant.tool_calls == [pb.ToolCall(id="c1", name="weather", arguments_json="{}", opaque=b"sig")]
    assert json.loads(sent.tools[0].parameters_json) == WEATHER.parameters
    assert not bare.options.HasField("temperature")
    assert not bare.options.HasField("max_tokens")


@in_loop
async def test_usage_that_is_not_told_is_unknown() -> None:
    """A turn without usage has none, which is not zero; a total that is left out is the sum."""
    servicer = LLM(said("ok"), said("ok", usage=pb.TokenUsage(prompt_tokens=2, completion_tokens=1)))
    async with asking(servicer) as llm:
        assert (await turn_of(llm))[1].usage is None
        assert (await turn_of(llm))[1].usage == Usage(2, 1, 3)


@in_loop
async def test_arguments_as_a_struct_alone() -> None:
    """A provider that fills the arguments' Struct and not their JSON is read too, whole numbers as such."""
    call = pb.ToolCall(id="c1", name="weather")
    call.arguments.update({"city": "Oslo", "days": 3})
    async with asking(LLM(said(tool_calls=[call], finish_reason=pb.FINISH_REASON_UNSPECIFIED))) as llm:
        _, turn = await turn_of(llm, WITH_TOOLS)
    assert json.loads(turn.tool_calls[0].arguments) == {"city": "Oslo", "days": 3}
    assert '"days":3' in turn.tool_calls[0].arguments
    assert turn.finish is Finish.TOOL_CALLS


@in_loop
async def test_a_provider_that_does_not_stream() -> None:
    """Where StreamText is UNIMPLEMENTED, GenerateText gives the turn; its errors are mapped alike."""
    reply = pb.GenerateTextResponse(text="Hello", reasoning="Hm.", finish_reason=pb.FINISH_REASON_STOP)
    servicer = LLM(reply, LimitReached("slow down", reason="UPSTREAM_RATE_LIMITED", retry_after=7), streams=False)
    async with asking(servicer) as llm:
        deltas, turn = await turn_of(llm)
        assert (deltas, turn) == ([], Turn("Hello", "Hm."))
        assert (await failure_of(llm)).retry_after == 7


@in_loop
async def test_an_option_that_is_not_there_is_no_missing_method() -> None:
    """UNIMPLEMENTED with a reason of its own is the provider's answer: it is not asked again in another way."""

    class Odd(CallerOdd):
        reason = "NO_SUCH_OPTION"

    servicer = LLM([Odd("stop is not supported")])
    async with asking(servicer) as llm:
        error = await failure_of(llm)
    assert (error.code, error.reason, len(servicer.requests)) == (Code.UNIMPLEMENTED, "NO_SUCH_OPTION", 1)


class CallerOdd(PluginError):
    code = Code.UNIMPLEMENTED


@in_loop
async def test_another_kind_of_server() -> None:
    """Where another plugin runs at the address, its name, the setting and what is wrong are told."""
    async with peer(Tools({})) as other:
        llm = GrpcLLM("main", Address(other.address))
        try:
            error = await failure_of(llm)
        finally:
            await llm.close()
    assert str(error) == "the LLM provider main is another kind of server; correct the setting llm"
    async with asking(LLM(CallerOdd("no such method", reason="UNIMPLEMENTED"), streams=False)) as llm:
        assert "is another kind of server" in str(await failure_of(llm))


@in_loop
async def test_what_was_shown_is_not_asked_for_again() -> None:
    """UNIMPLEMENTED after the first pieces is a turn that failed: asked for once more, they would be there twice."""

    def breaks_off(request: Any, context: Any) -> Any:
        yield pb.StreamTextResponse(text="Hel")
        yield context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    servicer = LLM(breaks_off)
    async with asking(servicer) as llm:
        assert (await failure_of(llm)).code is Code.UNIMPLEMENTED
    assert len(servicer.requests) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidArgument("too long", reason="CONTEXT_LENGTH_EXCEEDED"), {"too_long": True, "tools_refused": False}),
        (InvalidArgument("many tools, too long", reason="CONTEXT_LENGTH_EXCEEDED"), {"tools_refused": False}),
        (InvalidArgument("e answered 400: this model does not support tools"), {"tools_refused": True}),
        (NotFound("e answered 404: No endpoints found that support tool use"), {"tools_refused": True}),
        (InvalidArgument('"auto" tool choice requires --enable-auto-tool-choice'), {"tools_refused": True}),
        (InvalidArgument("Function calling is not enabled for this model"), {"tools_refused": True}),
        (Unavailable("e answered 500: tools param requires --jinja flag", retry_after=1), {"tools_refused": True}),
        (Unavailable("e answered 500: the tool parser crashed", retry_after=1), {"tools_refused": False}),
        (InvalidArgument("e answered 400: temperature is too high"), {"tools_refused": False}),
        (LimitReached("slow", reason="UPSTREAM_RATE_LIMITED", retry_after=3), {"retry_after": 3.0}),
        (Unavailable("down", reason="UPSTREAM_UNREACHABLE", retry_after=1.5), {"retry_after": 1.5}),
        (PermissionDenied("no", reason="UPSTREAM_PERMISSION_DENIED"), {"retry_after": None}),
        (DeadlineExceeded("slow", reason="UPSTREAM_TIMEOUT"), {"too_long": False}),
    ],
)
@in_loop
async def test_errors_of_the_provider(error: PluginError, expected: Mapping[str, Any]) -> None:
    """The provider's code, reason and words come through; what can be acted on is told apart."""
    async with asking(LLM([error])) as llm:
        failed = await failure_of(llm, WITH_TOOLS)
    assert (failed.code, failed.reason) == (error.code, error.reason)
    assert failed.message == f"the LLM provider main: {error.message}"
    assert {name: getattr(failed, name) for name in expected} == expected


@in_loop
async def test_tools_are_refused_only_where_they_were_sent() -> None:
    """An error that mentions tools says nothing of a turn that had none."""
    async with asking(LLM([InvalidArgument("this model does not support tools")])) as llm:
        assert not (await failure_of(llm)).tools_refused


@in_loop
async def test_tools_that_were_left_out_were_refused() -> None:
    """A turn whose tools the provider left out is no turn: the model knew of none."""
    async with asking(LLM(said("Hello", dropped_params=["tools"]))) as llm:
        error = await failure_of(llm, WITH_TOOLS)
    assert (error.tools_refused, error.code) == (True, Code.INVALID_ARGUMENT)


@in_loop
async def test_a_stream_that_just_ends() -> None:
    """A stream without its last message was cut off: no turn."""
    async with asking(LLM([pb.StreamTextResponse(text="Hel")])) as llm:
        error = await failure_of(llm)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "STREAM_TRUNCATED")


@in_loop
async def test_a_provider_that_is_not_there() -> None:
    """No connection is UNAVAILABLE, in words that name the provider and the remedy and no address."""
    async with peer(LLM(said("ok"))) as running:
        address = running.address
    llm = GrpcLLM("main", Address(address))
    try:
        error = await failure_of(llm)
    finally:
        await llm.close()
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "LLM_UNAVAILABLE")
    assert error.message == "the LLM provider main is not there, or has gone; start it, or correct the setting llm"


@in_loop
async def test_a_provider_that_is_back_is_found() -> None:
    """A provider that was away and is there again is asked within seconds."""
    servicer = LLM(said("ok"))
    async with peer(servicer) as running:
        llm = GrpcLLM("main", Address(running.address))
        try:
            await turn_of(llm)
            await running.die()
            for _ in range(5):
                await failure_of(llm)
            await running.start()
            while True:
                try:
                    await turn_of(llm)
                    break
                except LLMFailed:
                    await asyncio.sleep(0.05)
        finally:
            await llm.close()


@in_loop
async def test_closing_a_turn_ends_the_call() -> None:
    """Whoever stops reading a turn ends the provider's call, and a cancel does the same."""

    def endless(request: Any, context: Any) -> Any:
        yield pb.StreamTextResponse(text="Hel")
        yield asyncio.sleep(SECONDS)

    servicer = LLM(endless)
    async with asking(servicer) as llm:
        async with aclosing(llm.turn(ASK)) as items:
            assert await anext(items) == Delta("Hel")
        await servicer.ended.wait()

        servicer.ended.clear()
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in llm.turn(ASK):
                begun.set()

        reading = asyncio.ensure_future(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await servicer.ended.wait()


@in_loop
async def test_a_turn_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that goes on past what any model writes ends as one that was cut off, and the call with it."""
    monkeypatch.setattr(llm_module, "_MOST_BYTES", 1_000)

    def flood(request: Any, context: Any) -> Any:
        while True:
            yield pb.StreamTextResponse(text="x" * 300)

    servicer = LLM(flood)
    async with asking(servicer) as llm:
        _, turn = await turn_of(llm)
        await servicer.ended.wait()
    assert (len(turn.text), turn.finish) == (1_200, Finish.LENGTH)


@in_loop
async def test_the_token_goes_along() -> None:
    """A provider's token is sent with every call, and no error shows it."""
    seen: list[dict[str, Any]] = []

    def turn(request: Any, context: Any) -> Any:
        seen.append(dict(context.invocation_metadata()))
        return [Unauthenticated("the token open-sesame is wrong", reason="TOKEN_WRONG")]

    async with peer(LLM(turn)) as running:
        llm = GrpcLLM("main", Address(running.address, token=Secret("open-sesame")))
        try:
            error = await failure_of(llm)
        finally:
            await llm.close()
    assert seen[0]["authorization"] == "Bearer open-sesame"
    assert "sesame" not in error.message
    assert error.code is Code.UNAUTHENTICATED


# ---------------------------------------------------------------- what the model can


def model(id: str, *capabilities: str, length: int = 0, default: bool = False) -> pb.ModelInfo:
    return pb.ModelInfo(id=id, capabilities=capabilities, context_length=length, is_default=default)


@in_loop
async def test_abilities() -> None:
    """A model's length and whether it takes tools, the default's for no name; what nobody says is unknown."""
    servicer = LLM(
        models=[
            model("a", "tools", "vision", length=8000, default=True),
            model("b", "json_schema"),
            model("c", "vision"),
            model("d"),
        ]
    )
    async with asking(servicer) as llm:
        assert await llm.abilities("") == await llm.abilities("a") == Abilities(8000, True)
        assert await llm.abilities("b") == Abilities(0, False)
        assert await llm.abilities("c") == await llm.abilities("d") == await llm.abilities("e") == Abilities()
    assert servicer.listed == 1


@in_loop
async def test_the_only_model_is_the_default() -> None:
    """Where one model is listed, that is the one that answers when none is named; of several nobody knows."""
    async with asking(LLM(models=[model("a", length=5)])) as llm:
        assert await llm.abilities("") == Abilities(5)
    async with asking(LLM(models=[model("a", length=5), model("b", length=6)])) as llm:
        assert await llm.abilities("") == Abilities()


@in_loop
async def test_abilities_are_asked_once_and_again_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that ask at once are one ListModels, one that goes takes nothing from the others, and what was said is
    believed for a while and no longer; where the provider fails later, what was known stays."""
    servicer = LLM(models=[model("a", length=5)])
    async with asking(servicer) as llm:
        asked = [asyncio.ensure_future(llm.abilities("a")) for _ in range(20)]
        await asyncio.sleep(0)
        asked[0].cancel()
        assert set(await asyncio.gather(*asked[1:])) == {Abilities(5)}
        assert servicer.listed == 1
        monkeypatch.setattr(abilities_module, "ABILITIES_FOR", -1.0)
        llm._abilities._until = 0.0
        servicer.models = [model("a", length=6)]
        assert await llm.abilities("a") == Abilities(6)
        servicer.models = Unavailable("down")
        assert await llm.abilities("a") == Abilities(6)
        assert servicer.listed == 3
        assert await llm.abilities("a") == Abilities(6)  # and it is not asked at every turn
        assert servicer.listed == 3


@pytest.mark.parametrize("models", [None, Unavailable("down"), Internal("a bug")])
@in_loop
async def test_abilities_never_fail(models: PluginError | None) -> None:
    """A provider that does not list its models, or cannot, is one of which nothing is known."""
    async with asking(LLM(models=models)) as llm:
        assert await llm.abilities("") == Abilities()


@in_loop
async def test_abilities_of_a_provider_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that does not answer is not waited for long."""
    monkeypatch.setattr(llm_module, "_LIST_SECONDS", 0.2)

    class Silent(LLM):
        async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
            await asyncio.sleep(SECONDS)
            raise AssertionError

    async with asking(Silent()) as llm:
        assert await llm.abilities("") == Abilities()


@in_loop
async def test_abilities_that_are_asked_again_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is silent when it is asked again is not waited for: what was known counts meanwhile."""
    monkeypatch.setattr(abilities_module, "_AGAIN_SECONDS", 0.01)
    go = asyncio.Event()

    class Slow(LLM):
        async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
            if self.listed:
                await go.wait()
            return await super().ListModels(request, context)

    servicer = Slow(models=[model("a", length=5)])
    async with asking(servicer) as llm:
        assert await llm.abilities("a") == Abilities(5)
        servicer.models = [model("a", length=6)]
        llm._abilities._until = 0.0
        assert await llm.abilities("a") == Abilities(5)
        go.set()
        while await llm.abilities("a") != Abilities(6):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert servicer.listed == 2


# ---------------------------------------------------------------- tools


@asynccontextmanager
async def tools_at(*peers: Peer, names: tuple[str, ...] = (), token: str = "") -> AsyncIterator[GrpcTools]:
    named = names or tuple(f"server_{number}" for number, _ in enumerate(peers, 1))
    addresses = {name: Address(one.address, token=Secret(token)) for name, one in zip(named, peers, strict=True)}
    tools = GrpcTools(addresses, max_result_chars=5_000)
    try:
        yield tools
    finally:
        await tools.close()


@asynccontextmanager
async def with_tools(*servicers: Tools, **more: Any) -> AsyncIterator[tuple[GrpcTools, list[Peer]]]:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(servicer)) for servicer in servicers]
        yield await stack.enter_async_context(tools_at(*peers, **more)), peers


def nothing(request: Any, context: Any) -> str:
    return ""


def raising(error: PluginError) -> Any:
    def script(request: Any, context: Any) -> Any:
        raise error

    return script


async def run(tools: GrpcTools, name: str = "do", call_id: str = "run-1-0", seconds: float = SECONDS) -> Outcome:
    return await tools.execute(name, '{"a":1}', call_id, seconds)


@in_loop
async def test_a_provider_that_echoes_the_token() -> None:
    """No result and no error of a provider brings the token with it that it was called with."""

    def echoing(request: Any, context: Any) -> str:
        return f"I was called with {dict(context.invocation_metadata())['authorization']}."

    def refusing(request: Any, context: Any) -> str:
        raise FailedPrecondition(echoing(request, context))

    for servicer in (Tools({"do": echoing}), Tools({"do": refusing})):
        async with with_tools(servicer, token="open-sesame") as (tools, _):
            assert (await run(tools)).text == "I was called with Bearer ***."


@in_loop
async def test_tools_of_several_providers() -> None:
    """Providers are merged; a name that two have is told apart by their names; each call goes to its own."""
    web = Tools({"search": lambda *_: "web", "fetch": lambda *_: "page"})
    files = Tools({"search": lambda *_: "files", "read.file": lambda *_: "text"})
    async with with_tools(web, files, names=("web", "files")) as (tools, _):
        assert list(await tools.tools()) == ["web__search", "fetch", "files__search", "read_file"]
        assert all(name == tool.name for name, tool in (await tools.tools()).items())
        texts = {name: (await run(tools, name)).text for name in await tools.tools()}
    assert texts == {"web__search": "web", "fetch": "page", "files__search": "files", "read_file": "text"}
    assert [call.tool for call in files.calls] == ["search", "read.file"]


@in_loop
async def test_schemas_in_either_form() -> None:
    """JSON wins over the Struct, whose whole numbers are integers; the guide's flat form is a schema; what a tool says
    of itself comes through."""
    flat = pb.Tool(name="flat")
    flat.parameters.update({"city": "string", "days": {"type": "integer", "maximum": 3}})
    about = {
        "json": {"parameters_json": '{"type":"object","properties":{"a":{"type":"integer"}}}', "read_only": True},
        "flat": {"parameters": flat.parameters, "description": "Flat.", "idempotent": True, "destructive": True},
        "none": {},
    }
    async with with_tools(Tools(dict.fromkeys(about, nothing), about)) as (tools, _):
        found = await tools.tools()
    assert found["json"] == Tool(
        "json", "", {"type": "object", "properties": {"a": {"type": "integer"}}}, read_only=True
    )
    assert found["flat"].parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 3}},
    }
    assert json.dumps(found["flat"].parameters["properties"]["days"]["maximum"]) == "3"
    assert (found["flat"].idempotent, found["flat"].destructive, found["flat"].read_only) == (True, True, False)
    assert found["none"].parameters == {"type": "object", "properties": {}}


@in_loop
async def test_tools_that_no_model_can_be_offered() -> None:
    """A tool whose schema is none, or whose name models cannot call, is left out; the others are there."""
    about: dict[str, Any] = {
        "bad": {"parameters_json": "{"},
        "odd": {"parameters_json": '{"type":"strng"}'},
        "good": {},
    }
    about["a_b"] = {"description": "its own"}
    scripts = dict.fromkeys(["a.b", *about, "x" * 65], nothing)
    async with with_tools(Tools(scripts, about)) as (tools, _):
        found = await tools.tools()
        assert list(found) == ["good", "a_b"]
        assert found["a_b"].description == "its own"


@in_loop
async def test_providers_are_asked_side_by_side() -> None:
    """Each provider is asked while the others are: none answers before all were."""
    all_asked = asyncio.Barrier(3)

    class Waiting(Tools):
        async def ListTools(self, request: pb.ListToolsRequest, context: Any) -> pb.ListToolsResponse:
            await all_asked.wait()
            return await super().ListTools(request, context)

    async with with_tools(*(Waiting({f"t{n}": nothing}) for n in range(3))) as (tools, _):
        assert list(await tools.tools()) == ["t0", "t1", "t2"]


@in_loop
async def test_the_list_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """ListTools is asked once, by however many, until its time is over; then there is what there is by then."""
    servicer = Tools({"a": nothing})
    async with with_tools(servicer) as (tools, _):
        await asyncio.gather(*(tools.tools() for _ in range(20)))
        first = await tools.tools()
        assert servicer.listed == 1
        tools._listed[0].until = 0.0
        servicer.scripts["b"] = nothing
        assert list(await tools.tools()) == ["a", "b"]
        assert servicer.listed == 2
        tools._listed[0].until = 0.0
        again = await tools.tools()
        assert again["a"] is not first["a"]
        tools._listed[0].until = 0.0
        assert (await tools.tools())["a"] is again["a"]  # a list that did not change changes nothing here


@in_loop
async def test_a_list_that_is_asked_again_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is silent when it is asked again is not waited for: the tools that it had are there meanwhile."""
    monkeypatch.setattr(tools_module, "_AGAIN_SECONDS", 0.01)
    go = asyncio.Event()

    class Slow(Tools):
        async def ListTools(self, request: pb.ListToolsRequest, context: Any) -> pb.ListToolsResponse:
            if self.listed:
                await go.wait()
            return await super().ListTools(request, context)

    servicer = Slow({"a": nothing})
    async with with_tools(servicer) as (tools, _):
        await tools.tools()
        servicer.scripts["b"] = nothing
        tools._listed[0].until = 0.0
        assert list(await tools.tools()) == ["a"]
        go.set()
        while list(await tools.tools()) != ["a", "b"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert servicer.listed == 2


@in_loop
async def test_a_tool_that_is_gone() -> None:
    """An unknown tool reads just so, and the next look finds what there is now."""
    servicer = Tools({"a": nothing, "b": nothing})
    async with with_tools(servicer) as (tools, _):
        await tools.tools()
        del servicer.scripts["a"]
        assert await run(tools, "a") == Outcome("Unknown tool: a", is_error=True)
        assert list(await tools.tools()) == ["b"]
        assert await run(tools, "a") == Outcome("Unknown tool: a", is_error=True)
        assert [call.tool for call in servicer.calls] == ["a"]  # the second time nobody was asked


@in_loop
async def test_a_provider_that_was_never_there() -> None:
    """Where a provider cannot be asked that never was, no run can begin: its tools are not known. Then it comes up."""
    async with peer(Tools({"a": nothing})) as gone:
        pass
    async with with_tools(Tools({"b": nothing})) as (_, peers), tools_at(peers[0], gone, names=("one", "two")) as tools:
        with pytest.raises(Unavailable) as raised:
            await tools.tools()
        assert raised.value.message == (
            "the tool provider two cannot be reached; start it, or correct the setting tools"
        )
        assert raised.value.retry_after is not None
        await gone.start()
        while True:
            try:
                assert list(await tools.tools()) == ["b", "a"]
                break
            except Unavailable:
                await asyncio.sleep(0.05)
        await gone.die()


@in_loop
async def test_a_provider_that_went_away_keeps_its_tools() -> None:
    """What a provider had it may have when it is back: its tools stay, and calls say that it is away."""
    servicer = Tools({"a": nothing})
    async with with_tools(servicer) as (tools, peers):
        await tools.tools()
        servicer.refuses_lists = Unavailable("loading", reason="LOADING")
        tools._listed[0].until = 0.0
        assert list(await tools.tools()) == ["a"]
        await peers[0].die()
        tools._listed[0].until = 0.0
        assert list(await tools.tools()) == ["a"]


@in_loop
async def test_the_tool_providers_token_goes_along() -> None:
    """A tool provider's token is sent with every call."""
    servicer = Tools({"a": nothing})
    async with with_tools(servicer, token="open-sesame") as (tools, _):
        await tools.tools()
    assert servicer.metadata[0]["authorization"] == "Bearer open-sesame"


# ---------------------------------------------------------------- calls of tools


@in_loop
async def test_what_a_call_sends() -> None:
    """A call carries the arguments as they are, its id, the most characters of a result, and a deadline."""
    left: list[float] = []

    def script(request: Any, context: Any) -> str:
        left.append(context.time_remaining())
        return "done"

    servicer = Tools({"do": script})
    async with with_tools(servicer) as (tools, _):
        assert await run(tools, seconds=50) == Outcome("done")
    (call,) = servicer.calls
    assert (call.parameters_json, call.call_id, call.max_result_chars) == ('{"a":1}', "run-1-0", 5_000)
    assert 40 < left[0] < 55  # gRPC rounds up


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (gave("text"), "text"),
        (gave("text", truncated=True), "text\n[This is a part of the result.]"),
        (gave("text … go on with k1", truncated=True, next_cursor="k1"), "text … go on with k1"),
        (gave("", structured_json='{"a":1}'), '{"a":1}'),
        (gave(""), "do ended without a result."),
    ],
)
@in_loop
async def test_results(reply: pb.ExecuteToolResponse, text: str) -> None:
    """The text, or the data where there is no text; a part of a result says that it is one."""
    async with with_tools(Tools({"do": lambda *_: reply})) as (tools, _):
        assert await run(tools) == Outcome(text)


@in_loop
async def test_a_result_that_is_longer_than_was_asked_for() -> None:
    """Of a provider that does not heed max_result_chars head and tail are taken, and what is missing is said."""
    text = "a" * 10_000 + "z" * 10_000
    async with with_tools(Tools({"do": lambda *_: text})) as (tools, _):
        told = (await run(tools)).text
    assert told.startswith("a" * 3_334)
    assert told.endswith("z" * 1_666)
    assert "[… 15,000 characters left out …]" in told
    assert len(told) < 5_100


@in_loop
async def test_the_id_of_the_call_goes_along() -> None:
    """Calls of other plugins carry the id of the call that they are made for, so that the logs can be put together."""
    servicer = Tools({"a": nothing})
    async with with_tools(servicer) as (tools, _):
        logs.request_id.set("the-request")
        await tools.tools()
    assert servicer.metadata[0]["x-request-id"] == "the-request"


@in_loop
async def test_data_without_text() -> None:
    """A result that is a Value alone is given as JSON."""
    reply = gave("")
    reply.structured.struct_value.update({"city": "Oslo"})
    async with with_tools(Tools({"do": lambda *_: reply})) as (tools, _):
        assert await run(tools) == Outcome('{"city": "Oslo"}')


def with_body(error: Any, body: str) -> Any:
    error.body = body
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotFound("no such user", reason="UPSTREAM_NOT_FOUND"), Outcome("no such user", is_error=True)),
        (
            with_body(NotFound("the server answered 404", reason="UPSTREAM_NOT_FOUND"), '{"message": "gone"}'),
            Outcome('the server answered 404\n\n{"message": "gone"}', is_error=True),
        ),
        (
            PermissionDenied("host x is not allowed", reason="BLOCKED_HOST"),
            Outcome("host x is not allowed", is_error=True, denied=True),
        ),
        (
            PermissionDenied("the server answered 403", reason="UPSTREAM_FORBIDDEN"),
            Outcome("the server answered 403", is_error=True),
        ),
        (LimitReached("the quota is spent; wait", retry_after=7), Outcome("the quota is spent; wait", is_error=True)),
        (FailedPrecondition("not now"), Outcome("not now", is_error=True)),
    ],
)
@in_loop
async def test_a_tool_that_failed(error: PluginError, expected: Outcome) -> None:
    """The words and the body; a policy that forbids is a denial, a server that forbids is a failure. Nothing is tried
    again."""
    servicer = Tools({"do": raising(error)}, {"do": {"read_only": True}})
    async with with_tools(servicer) as (tools, _):
        assert await run(tools) == expected
    assert len(servicer.calls) == 1


@pytest.mark.parametrize("about", [{}, {"idempotent": True}])
@in_loop
async def test_an_earlier_attempt_began_another_call(about: Mapping[str, Any]) -> None:
    """CALL_ID_REUSED: the model is told that what an earlier attempt of the step did is not known; nothing is run."""
    error = InvalidArgument("call_id was used before for another call", reason="CALL_ID_REUSED", field="call_id")
    servicer = Tools({"do": raising(error)}, {"do": about})
    async with with_tools(servicer) as (tools, _):
        outcome = await run(tools)
    assert outcome.is_error
    assert "an earlier attempt at this step, which was cut off, began another call" in outcome.text
    assert "not known" in outcome.text
    assert len(servicer.calls) == 1


@in_loop
async def test_a_call_that_only_reads_gets_an_id_of_its_own() -> None:
    """CALL_ID_REUSED for a call that only reads: it is run under another id, the same one each time, and once."""
    reused = InvalidArgument("call_id was used before for another call", reason="CALL_ID_REUSED")

    def once(request: Any, context: Any) -> str:
        if request.call_id == "run-1-0":
            raise reused
        return "read"

    servicer = Tools({"do": once, "never": raising(reused)}, {"do": HARMLESS[0], "never": HARMLESS[0]})
    async with with_tools(servicer) as (tools, _):
        assert await run(tools) == await run(tools) == Outcome("read")
        assert (await run(tools, "never")).is_error
    first, own, _, again, *never = [call.call_id for call in servicer.calls]
    assert (first, own, len(never)) == ("run-1-0", again, 2)
    assert own.startswith("run-1-0.")


@in_loop
async def test_an_outcome_that_nobody_knows() -> None:
    """OUTCOME_UNKNOWN: the model is told that it is not known whether the call took effect."""
    servicer = Tools({"do": raising(OutcomeUnknown("the first call ended without an answer"))})
    async with with_tools(servicer) as (tools, _):
        outcome = await run(tools)
    assert outcome.is_error
    assert "was not run again" in outcome.text
    assert "Whether it took effect is not known" in outcome.text
    assert len(servicer.calls) == 1


def dying(peers: list[Peer]) -> Any:
    """A script whose server dies, in its first call, and comes back at once; later calls end well."""
    count = 0

    async def script(request: Any, context: Any) -> str:
        nonlocal count
        count += 1
        if count == 1:
            dead = asyncio.ensure_future(peers[0].die())
            await asyncio.shield(dead)
        return f"run {count}"

    return script


@pytest.mark.slow
@pytest.mark.parametrize("about", HARMLESS)
@in_loop
async def test_a_provider_that_dies_in_a_harmless_call(about: Mapping[str, Any]) -> None:
    """A call that does no harm when it is made twice is made once more, with the same id, where its provider died."""
    peers: list[Peer] = []
    servicer = Tools({"do": dying(peers)}, {"do": about})
    async with with_tools(servicer) as (tools, found):
        peers += found
        await tools.tools()
        call = asyncio.ensure_future(run(tools))
        await servicer.ended.wait()
        await found[0].start()
        assert await call == Outcome("run 2")
    assert [one.call_id for one in servicer.calls] == ["run-1-0", "run-1-0"]


@in_loop
async def test_a_provider_that_dies_in_any_other_call() -> None:
    """A call that may have taken effect is not made again: the model is told that nobody knows."""
    peers: list[Peer] = []
    servicer = Tools({"do": dying(peers)}, {"do": {"destructive": True}})
    async with with_tools(servicer) as (tools, found):
        peers += found
        await tools.tools()
        call = asyncio.ensure_future(run(tools))
        await servicer.ended.wait()
        await found[0].start()
        outcome = await call
    assert outcome.text == (
        "do: the connection to its server broke while it ran. Whether it took effect is not known: find that out "
        "before you call it again."
    )
    assert (outcome.is_error, len(servicer.calls)) == (True, 1)


@in_loop
async def test_a_provider_that_dies_and_stays_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try waits a while for its provider, and then it is said that it is gone; of a call that changes
    something also that it may have taken effect."""
    monkeypatch.setattr(provider_module, "PATIENCE", 0.2)
    for about, doubt in (({"read_only": True}, False), ({"idempotent": True}, True)):
        peers: list[Peer] = []
        servicer = Tools({"do": dying(peers)}, {"do": about})
        async with with_tools(servicer) as (tools, found):
            peers += found
            await tools.tools()
            outcome = await run(tools)
        assert (outcome.is_error, len(servicer.calls)) == (True, 1)
        assert ("took effect is not known" in outcome.text) is doubt


@in_loop
async def test_a_provider_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that cannot be reached is waited for a little; the words say that nothing was run, and no address."""
    monkeypatch.setattr(provider_module, "PATIENCE", 0.3)
    servicer = Tools({"do": lambda *_: "done"})
    async with with_tools(servicer) as (tools, peers):
        await tools.tools()
        await peers[0].die()
        async with asyncio.timeout(SECONDS):
            while "the connection to its server broke" in (outcome := await run(tools)).text:
                pass  # the client has not learnt yet that the connection ended
        assert outcome == Outcome("do was not run: its server cannot be reached.", is_error=True)
        monkeypatch.setattr(provider_module, "PATIENCE", SECONDS)
        call = asyncio.ensure_future(run(tools))
        await asyncio.sleep(0.05)
        await peers[0].start()
        assert await call == Outcome("done")
    assert len(servicer.calls) == 1


@pytest.mark.parametrize("error", [Overloaded("full", retry_after=1), Unavailable("loading", reason="LOADING")])
@in_loop
async def test_a_provider_that_is_not_ready(monkeypatch: pytest.MonkeyPatch, error: PluginError) -> None:
    """A provider that says that it did not begin is asked again for a little, whatever the tool does; then it is told
    that nothing was run."""
    monkeypatch.setattr(provider_module, "_PAUSE", 0.01)
    count = 0

    def script(request: Any, context: Any) -> str:
        nonlocal count
        count += 1
        if count <= 3:
            raise error
        return "done"

    servicer = Tools({"do": script, "never": raising(error)})
    async with with_tools(servicer) as (tools, _):
        assert await run(tools) == Outcome("done")
        monkeypatch.setattr(provider_module, "PATIENCE", 0.1)
        outcome = await run(tools, "never")
    assert outcome == Outcome(f"never was not run: its server is not ready: {error.message}", is_error=True)


@pytest.mark.slow
@pytest.mark.parametrize(("about", "doubt"), [({}, True), ({"idempotent": True}, True), ({"read_only": True}, False)])
@in_loop
async def test_silence(about: Mapping[str, Any], doubt: bool) -> None:
    """A call that gets no answer in its time ends, and the provider sees that; of one that changes something it is said
    that it may have taken effect."""

    async def silent(request: Any, context: Any) -> str:
        await asyncio.sleep(SECONDS)
        return ""

    servicer = Tools({"do": silent}, {"do": about})
    async with with_tools(servicer) as (tools, _):
        await tools.tools()
        outcome = await run(tools, seconds=1.5)  # in which it is to reach the provider
        await servicer.ended.wait()
    assert outcome.is_error
    assert outcome.text.startswith("do did not answer within the 1.5 s that it had.")
    assert ("took effect is not known" in outcome.text) is doubt
    assert len(servicer.calls) == 1


@in_loop
async def test_a_cancel_reaches_the_provider() -> None:
    """Whoever stops waiting for a call ends it at the provider."""
    begun = asyncio.Event()

    async def slow(request: Any, context: Any) -> str:
        begun.set()
        await asyncio.sleep(SECONDS)
        return ""

    servicer = Tools({"do": slow})
    async with with_tools(servicer) as (tools, _):
        call = asyncio.ensure_future(run(tools))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await servicer.ended.wait()


@pytest.mark.parametrize(
    ("error", "words", "denied"),
    [
        (Unauthenticated("no", reason="TOKEN_WRONG"), "do was not run: its server refuses this plugin's token.", False),
        (TooLarge("the reply has 9 MB; ask for less"), "do failed: the reply has 9 MB; ask for less Whether it", False),
        (Internal("an internal error, request 12"), "do failed: an internal error, request 12 Whether it took", False),
        (DeadlineExceeded("late"), "do did not answer within", False),
    ],
)
@in_loop
async def test_calls_that_end_in_a_status(error: PluginError, words: str, denied: bool) -> None:
    """An error of the provider's server is words for the model, and it is not tried again: it was an answer."""
    servicer = Tools({"do": raising(error)}, {"do": {"idempotent": True}})
    async with with_tools(servicer) as (tools, _):
        outcome = await run(tools)
    assert outcome.text.startswith(words)
    assert (outcome.is_error, outcome.denied, len(servicer.calls)) == (True, denied, 1)


@pytest.mark.parametrize(("about", "tries"), [({}, 1), ({"read_only": True}, 2)])
@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
@in_loop
async def test_a_call_that_its_server_ends(code: grpc.StatusCode, about: Mapping[str, Any], tries: int) -> None:
    """A server that ends a call, as one does that shuts down, ends nothing here but that call: it broke, as when the
    connection does."""

    async def ends(request: Any, context: Any) -> str:
        await context.abort(code, "10.0.0.1 is going down")
        raise AssertionError

    servicer = Tools({"do": ends}, {"do": about})
    async with with_tools(servicer) as (tools, _):
        outcome = await run(tools)
    assert outcome.text.startswith("do: the connection to its server broke while it ran.")
    assert (outcome.is_error, len(servicer.calls)) == (True, tries)


@in_loop
async def test_a_turn_that_its_server_ends() -> None:
    """A turn that the LLM's server cancels failed; it is no cancel of whoever waits for it."""

    def ends(request: Any, context: Any) -> Any:
        yield pb.StreamTextResponse(text="Hel")
        yield context.abort(grpc.StatusCode.CANCELLED, "10.0.0.1 is going down")

    async with asking(LLM(ends)) as llm:
        error = await failure_of(llm)
    assert (error.code, error.retry_after) == (Code.UNAVAILABLE, 1.0)
    assert "10.0.0.1" not in error.message


@in_loop
async def test_a_provider_that_forbids() -> None:
    """PERMISSION_DENIED is a denial, as a status too."""

    async def forbids(request: Any, context: Any) -> str:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "secret words at 10.0.0.1")
        raise AssertionError

    async with with_tools(Tools({"do": forbids})) as (tools, _):
        outcome = await run(tools)
    assert outcome == Outcome("do was not run: its server does not allow it.", is_error=True, denied=True)


@in_loop
async def test_a_tool_before_anything_was_listed() -> None:
    """A server that was started anew knows where to send a call of a run that it did not begin."""
    servicer = Tools({"do": lambda *_: "done"})
    async with with_tools(servicer) as (tools, peers):
        assert await run(tools) == Outcome("done")
        await peers[0].die()
        async with tools_at(peers[0]) as others:
            outcome = await run(others)
    told = f"do was not run: the tool provider {peers[0].address} cannot be reached"
    assert outcome.text.startswith(told)


def test_what_a_provider_is_called() -> None:
    """In messages it has its name in the settings; without one its address there, but for a path of this machine."""
    assert who("main", Address("10.0.0.7:8081")) == "main"
    assert who("server_2", Address("10.0.0.7:8081")) == "10.0.0.7:8081"
    assert who("server_2", Address("unix:/run/llm.sock")) == "server_2"


@in_loop
async def test_no_providers() -> None:
    """Without providers there are no tools, and nothing fails."""
    tools = GrpcTools({}, max_result_chars=100)
    assert await tools.tools() == {}
    assert await run(tools) == Outcome("Unknown tool: do", is_error=True)
    await tools.close()


def test_the_times_are_sane() -> None:
    """What is believed for a while is believed longer than what failed is left alone."""
    assert tools_module._AGAIN_AFTER < tools_module.LISTED_FOR
    assert abilities_module.UNKNOWN_FOR < abilities_module.ABILITIES_FOR
