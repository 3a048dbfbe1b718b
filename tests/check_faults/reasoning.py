"""A ReasoningStrategy in the plainest way, and many that are wrong in one thing."""

from __future__ import annotations

import contextlib
import copy
import hmac
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2, status_pb2
from hector_plugins_pb2_grpc import LLMProviderStub, ReasoningStrategyServicer, ToolProviderStub

from shared.errors import Code
from tests.check_faults import Fault, Refused, answering

KEY = b"the key of a test"
STOPS = {
    "answered": pb.STOP_REASON_ANSWERED,
    "iterations": pb.STOP_REASON_MAX_ITERATIONS,
    "early": pb.STOP_REASON_FINALIZED_EARLY,
    "tokens": pb.STOP_REASON_MAX_TOKENS,
    "calls": pb.STOP_REASON_MAX_TOOL_CALLS,
}
Run = dict[str, Any]


class Strategy(ReasoningStrategyServicer):
    """The right one. What the wrong ones change are its small methods."""

    def __init__(self, llm: str, tools: str) -> None:
        self.model = LLMProviderStub(grpc.insecure_channel(llm))
        self.tools = ToolProviderStub(grpc.insecure_channel(tools))
        self.replies: dict[Any, Any] = {}
        self.lock = threading.Lock()

    # ------------------------------------------------ the RPCs

    @answering(pb.InitializeResponse)
    def Initialize(self, request: Any) -> Any:
        run = {
            "id": self.new_id(),
            "query": request.query,
            "context": request.context,
            "most": request.max_iterations or 10,
            "host": request.host_executes,
            "steps": [],
            "stop": "",
            "answer": "",
            "tokens": 0,
            "calls": 0,
            "model": request.model,
            "temperature": self.temperature(request),
            "history": [[message.role, message.content] for message in request.history],
            "tools": [MessageToDict(tool) for tool in request.tools],
            "budget": [request.budget.max_tokens, request.budget.max_tool_calls],
        }
        self.check_llm(request.llm)
        return pb.InitializeResponse(success=True, state=self.sealed(run))

    @answering(pb.ProcessIterationResponse)
    def ProcessIteration(self, request: Any) -> Any:
        return self.remembered(request)

    def StreamIteration(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        reply = self.ProcessIteration(request, context)
        if reply.done:
            yield pb.IterationEvent(answer_delta=reply.result)
        yield pb.IterationEvent(response=reply)

    @answering(pb.FinalizeResponse)
    def Finalize(self, request: Any) -> Any:
        run = self.opened(request.state)
        if not run["stop"]:
            self.question(run, "", default="early")
            self.answer(run, self.ask(run, tools=False).text, "early")
        trace = [self.step(step) for step in run["steps"]]
        return pb.FinalizeResponse(
            success=True,
            result=self.final(run),
            stop_reason=STOPS[run["stop"]],
            usage=pb.TokenUsage(total_tokens=run["tokens"]),
            trace=self.traced(trace),
        )

    # ------------------------------------------------ the state

    def new_id(self) -> str:
        return uuid.uuid4().hex

    def sealed(self, run: Run) -> bytes:
        text = json.dumps(run, sort_keys=True).encode()
        return self.seal(text) + text

    def seal(self, text: bytes) -> bytes:
        return hmac.digest(KEY, text, "sha256")

    def opened(self, state: bytes) -> Run:
        if not self.genuine(state):
            raise Refused(Code.INVALID_ARGUMENT, "this is no state of mine; send the last reply's", "state")
        run: Run = json.loads(state[32:])
        return run

    def genuine(self, state: bytes) -> bool:
        return len(state) > 32 and hmac.compare_digest(self.seal(state[32:]), state[:32])

    # ------------------------------------------------ a step

    def remembered(self, request: Any) -> Any:
        """A repeated step has the first one's reply."""
        key = self.key(request)
        with self.waits():
            if key not in self.replies:
                self.replies[key] = self.iterate(request)
            return self.replies[key]

    def waits(self) -> Any:
        """For whoever takes a step already."""
        return self.lock

    def key(self, request: Any) -> Any:
        return request.SerializeToString(deterministic=True)

    def iterate(self, request: Any) -> Any:
        run = self.opened(request.state)
        self.question(run, request.input)
        self.observe(run, request)
        tokens = run["tokens"]
        reply = self.ask(run, tools=True)
        step: Run = {"thought": reply.text, "actions": [], "observations": []}
        run["steps"].append(step)
        if not reply.tool_calls:
            self.answer(run, reply.text, "answered")
        for number, call in enumerate(reply.tool_calls):
            action = {
                "id": self.action_id(run, number),
                "tool": call.name,
                "arguments": call.arguments_json,
                "call": call.id,
            }
            step["actions"].append(action)
            if not run["host"]:
                step["observations"].append(self.execute(action))
            run["calls"] += 1
        spent = self.spent(run)
        if not run["stop"] and (spent or len(run["steps"]) >= self.most(run)):
            self.answer(run, self.ask(run, tools=False).text, spent or "iterations")
        pending = [self.action(a) for a in step["actions"]] if run["host"] and not run["stop"] else []
        return pb.ProcessIterationResponse(
            success=True,
            result=self.result(run, step),
            done=bool(run["stop"]),
            state=self.sealed(run),
            step=self.step(step),
            pending_actions=pending,
            stop_reason=STOPS.get(run["stop"], pb.STOP_REASON_UNSPECIFIED),
            usage=pb.TokenUsage(total_tokens=run["tokens"] - tokens),
            iteration=self.number(run),
        )

    def temperature(self, request: Any) -> float | None:
        if request.HasField("sampling_temperature"):
            return float(request.sampling_temperature)
        return request.temperature or None

    def check_llm(self, name: str) -> None:
        if name:
            raise Refused(Code.INVALID_ARGUMENT, f"no model is called {name}; leave `llm` out", "llm")

    def spent(self, run: Run) -> str:
        """What of the budget is spent."""
        tokens, calls = run["budget"]
        if tokens and run["tokens"] >= tokens:
            return "tokens"
        return "calls" if calls and run["calls"] >= calls else ""

    def question(self, run: Run, text: str, default: str = "") -> None:
        """Settles what is asked, once."""
        if "question" not in run:
            run["question"] = self.chosen(run, text)
        if not run["question"] and not default:
            self.nothing_asked()

    def nothing_asked(self) -> None:
        raise Refused(Code.INVALID_ARGUMENT, "there is no question; send one", "input")

    def chosen(self, run: Run, text: str) -> str:
        return str(run["query"] or text or run["context"])

    def observe(self, run: Run, request: Any) -> None:
        if not run["steps"] or not run["host"]:
            return
        last = run["steps"][-1]
        known = [action["id"] for action in last["actions"]]
        for observation in request.observations:
            self.check_observation(observation, known)
            last["observations"].append({"id": observation.action_id, "text": observation.content})
        if request.input and not request.observations:
            last["observations"].append({"id": known[0], "text": request.input})

    def check_observation(self, observation: Any, known: list[str]) -> None:
        if observation.action_id not in known:
            raise Refused(Code.INVALID_ARGUMENT, f"no action {observation.action_id} is pending", "observations")

    def ask(self, run: Run, tools: bool) -> Any:
        messages = [pb.ChatMessage(role=role, content=content) for role, content in run["history"]]
        if run["context"] and run["context"] != run["question"]:
            messages.append(pb.ChatMessage(role="system", content=self.background(run)))
        messages.append(pb.ChatMessage(role="user", content=run["question"]))
        for step in run["steps"]:
            calls = [
                pb.ToolCall(id=action["call"], name=action["tool"], arguments_json=action["arguments"])
                for action in step["actions"]
            ]
            messages.append(pb.ChatMessage(role="assistant", content=step["thought"], tool_calls=calls))
            for action, observation in self.paired(step):
                message = pb.ChatMessage(role="tool", content=self.observed(observation), tool_call_id=action["call"])
                messages.append(message)
        request = pb.GenerateTextRequest(messages=messages, model=run["model"])
        if run["temperature"] is not None:
            request.options.temperature = run["temperature"]
        try:
            if tools and run["tools"]:
                request.tools.extend(ParseDict(tool, pb.Tool()) for tool in run["tools"])
            elif tools:
                request.tools.extend(self.offered())
            reply = self.model.GenerateText(request, timeout=30)
        except grpc.RpcError as error:
            return self.model_failed(error)
        run["tokens"] += reply.usage.total_tokens
        return reply

    def offered(self) -> list[Any]:
        return list(self.tools.ListTools(pb.ListToolsRequest(), timeout=30).tools)

    def paired(self, step: Run) -> list[tuple[Run, Run]]:
        by_id = {observation["id"]: observation for observation in step["observations"]}
        return [(action, by_id[action["id"]]) for action in step["actions"] if action["id"] in by_id]

    def observed(self, observation: Run) -> str:
        return str(observation["text"])

    def background(self, run: Run) -> str:
        return f"Background: {run['context']}"

    def model_failed(self, error: Any) -> Any:
        raise Refused(Code.UNAVAILABLE, f"the model failed: {error.code().name}; try again")

    def execute(self, action: Run) -> Run:
        request = pb.ExecuteToolRequest(tool=action["tool"], parameters_json=action["arguments"], call_id=action["id"])
        reply = self.tools.ExecuteTool(request, timeout=30)
        return {"id": action["id"], "text": reply.result or self.error(reply), "failed": not reply.success}

    def error(self, reply: Any) -> str:
        return str(reply.error)

    def answer(self, run: Run, text: str, stop: str) -> None:
        run["answer"], run["stop"] = text, stop

    def action_id(self, run: Run, number: int) -> str:
        return f"{run['id']}-{len(run['steps'])}-{number}"

    def action(self, action: Run) -> Any:
        return pb.Action(id=action["id"], tool=action["tool"], parameters_json=action["arguments"])

    def step(self, step: Run) -> Any:
        observations = [
            pb.Observation(action_id=o["id"], content=o["text"], is_error=o.get("failed", False))
            for o in step["observations"]
        ]
        actions = [self.action(action) for action in step["actions"]]
        return pb.ReasoningStep(thought=step["thought"], actions=actions, observations=observations)

    def most(self, run: Run) -> int:
        return int(run["most"])

    def number(self, run: Run) -> int:
        return len(run["steps"])

    def result(self, run: Run, step: Run) -> str:
        return str(run["answer"] or step["thought"])

    def final(self, run: Run) -> str:
        return str(run["answer"])

    def traced(self, trace: list[Any]) -> list[Any]:
        return trace

    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        reason = "NO_QUESTION" if "question" in str(error) else error.code.name
        status = status_pb2.Status(code=error.code, message=str(error))
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="plugins.hector.dev"))
        return reply(success=False, error=str(error), status=status)


# ---------------------------------------------------------------- the wrong ones, of what the guide has


class EmptyState(Strategy):
    def sealed(self, run: Run) -> bytes:
        return b""


class OneState(Strategy):
    """It keeps the run itself: the state of each is the same."""

    def sealed(self, run: Run) -> bytes:
        self.run = run
        return b"run"

    def opened(self, state: bytes) -> Run:
        return copy.deepcopy(self.run)


class AnyState(Strategy):
    """What it cannot read is a new run."""

    def opened(self, state: bytes) -> Run:
        try:
            return super().opened(state)
        except Refused:
            return super().opened(self.Initialize(pb.InitializeRequest(context="?"), None).state)


class Crashes(Strategy):
    def genuine(self, state: bytes) -> bool:
        return bool(json.loads(state[32:]))


class TracebackInError(Strategy):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        return reply(error=f'Traceback (most recent call last):\n  File "/srv/run.py", line 1, in step\n{error}')


class AsksNothing(Strategy):
    """Without a question it asks the model all the same."""

    def nothing_asked(self) -> None:
        pass


class OnlyQuery(Strategy):
    def chosen(self, run: Run, text: str) -> str:
        return str(run["query"] or run["context"])


class NoInput(Strategy):
    def chosen(self, run: Run, text: str) -> str:
        return str(run["query"] or run["context"] or "Hello?") if not text else "Hello?"


class ContextFirst(Strategy):
    def chosen(self, run: Run, text: str) -> str:
        return str(run["context"] or run["query"] or text)


class NoBackground(Strategy):
    def background(self, run: Run) -> str:
        return "Be brief."


class NeverDone(Strategy):
    def iterate(self, request: Any) -> Any:
        reply = super().iterate(request)
        reply.done = False
        return reply


class NoAnswer(Strategy):
    def result(self, run: Run, step: Run) -> str:
        return ""


class OtherAnswer(Strategy):
    """Finalize gives another than the last step."""

    def final(self, run: Run) -> str:
        return f"In short: {run['answer']}"


class FinalizeChanges(Strategy):
    def final(self, run: Run) -> str:
        self.count = getattr(self, "count", 0) + 1
        return f"{run['answer']} ({self.count})" if self.count > 1 else str(run["answer"])


class FinalizeOnce(Strategy):
    """The second Finalize finds no run."""

    def Finalize(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.ended: set[bytes] = getattr(self, "ended", set())
        if request.state in self.ended:
            return self.failed(pb.FinalizeResponse, Refused(Code.NOT_FOUND, "there is no such run"))
        self.ended.add(request.state)
        return super().Finalize(request, context)


class OnlyWhenDone(Strategy):
    def Finalize(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.genuine(request.state) and not self.opened(request.state)["stop"]:
            return self.failed(pb.FinalizeResponse, Refused(Code.FAILED_PRECONDITION, "the run is not done"))
        return super().Finalize(request, context)


class EmptyWhenEarly(Strategy):
    def final(self, run: Run) -> str:
        return "" if run["stop"] == "early" else str(run["answer"])


class StepsAgain(Strategy):
    """A repeated step runs again."""

    def key(self, request: Any) -> Any:
        return object()

    def execute(self, action: Run) -> Run:
        return super().execute(action | {"id": uuid.uuid4().hex})


class ToolsTwice(Strategy):
    def execute(self, action: Run) -> Run:
        super().execute(action)
        return super().execute(action)


class NoTools(Strategy):
    """The model is told that its tool could not run."""

    def execute(self, action: Run) -> Run:
        return {"id": action["id"], "text": "The tool could not be run."}

    def most(self, run: Run) -> int:
        return 2


class LosesResults(Strategy):
    def observed(self, observation: Run) -> str:
        return "done"


class NoBound(Strategy):
    def most(self, run: Run) -> int:
        return 25


class OneRun(Strategy):
    """Every run has the last one's question."""

    def question(self, run: Run, text: str, default: str = "") -> None:
        super().question(run, text, default)
        run["question"] = self.latest

    @answering(pb.InitializeResponse)
    def Initialize(self, request: Any) -> Any:
        self.latest = request.query or request.context
        run = {"id": self.new_id(), "query": request.query, "context": request.context, "most": 10}
        run |= {"host": False, "steps": [], "stop": "", "answer": "", "tokens": 0}
        return pb.InitializeResponse(success=True, state=self.sealed(run))


class DownIsStatus(Strategy):
    def ProcessIteration(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().ProcessIteration(request, context)
        if reply.error.startswith("the model failed"):
            context.abort(grpc.StatusCode.UNAVAILABLE, reply.error)
        return reply


class DownIsAnswer(Strategy):
    def model_failed(self, error: Any) -> Any:
        return pb.GenerateTextResponse(text="Sorry, something went wrong.")


class DownForEver(Strategy):
    """A failed step is remembered like any other."""

    def remembered(self, request: Any) -> Any:
        key = self.key(request)
        if key in self.replies and self.replies[key] is None:
            raise Refused(Code.UNAVAILABLE, "the model failed")
        self.replies.setdefault(key, None)
        self.replies[key] = self.replies[key] or self.iterate(request)
        return self.replies[key]


class NoFinalize(Strategy):
    Finalize = ReasoningStrategyServicer.Finalize


# ---------------------------------------------------------------- the wrong ones, of the additions


class Unsigned(Strategy):
    """A state is taken if it can be read."""

    def genuine(self, state: bytes) -> bool:
        try:
            return isinstance(json.loads(state[32:]), dict)
        except ValueError:
            return False


class SignsTheBeginning(Strategy):
    def seal(self, text: bytes) -> bytes:
        return super().seal(text[:40])


class NoReason(Strategy):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        status = status_pb2.Status(code=error.code, message=str(error))
        return reply(success=False, error=str(error), status=status)


class DownIsInternal(Strategy):
    def model_failed(self, error: Any) -> Any:
        raise Refused(Code.INTERNAL, "the model failed")


class NumbersFromZero(Strategy):
    def number(self, run: Run) -> int:
        return len(run["steps"]) - 1


class AlwaysAnswered(Strategy):
    def answer(self, run: Run, text: str, stop: str) -> None:
        super().answer(run, text, "answered")


class NoActionIds(Strategy):
    def action_id(self, run: Run, number: int) -> str:
        return ""


class ChanceIds(Strategy):
    """The tool is called under another id than the step shows."""

    def execute(self, action: Run) -> Run:
        return super().execute(action | {"id": uuid.uuid4().hex}) | {"id": action["id"]}


class TraceOfTheLast(Strategy):
    def traced(self, trace: list[Any]) -> list[Any]:
        return trace[-1:]


class UsageOfTheRun(Strategy):
    def iterate(self, request: Any) -> Any:
        reply = super().iterate(request)
        reply.usage.total_tokens = self.opened(reply.state)["tokens"]
        return reply


class ExecutesForTheHost(Strategy):
    """With host_executes it runs the tools all the same."""

    def action(self, action: Run) -> Any:
        self.execute(action)
        return super().action(action)


class AnyObservation(Strategy):
    def check_observation(self, observation: Any, known: list[str]) -> None:
        pass


class NoInputOfHost(Strategy):
    def observe(self, run: Run, request: Any) -> None:
        if request.observations or not request.input:
            super().observe(run, request)


class StreamWithoutEnd(Strategy):
    def StreamIteration(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield pb.IterationEvent(answer_delta=self.ProcessIteration(request, context).result)


class StreamTwice(Strategy):
    def StreamIteration(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for event in super().StreamIteration(request, context):
            yield event
            yield event


class FirstCallOnly(Strategy):
    def execute(self, action: Run) -> Run:
        first = action["id"].endswith("-0")
        return super().execute(action) if first else {"id": action["id"], "text": "skipped", "failed": True}


class ErrorsAreKept(Strategy):
    """The model is not told why a tool failed."""

    def error(self, reply: Any) -> str:
        return "It failed."


class TwiceAtOnce(Strategy):
    """It remembers a step once it was taken, and not while it is."""

    def waits(self) -> Any:
        return contextlib.nullcontext()


class OwnTemperature(Strategy):
    def temperature(self, request: Any) -> float | None:
        return request.temperature or None


class OwnTools(Strategy):
    def opened(self, state: bytes) -> Run:
        return super().opened(state) | {"tools": []}


class NoBudget(Strategy):
    def spent(self, run: Run) -> str:
        return ""


class AnyModel(Strategy):
    def check_llm(self, name: str) -> None:
        pass


class ObservationsAsTheyCome(Strategy):
    def paired(self, step: Run) -> list[tuple[Run, Run]]:
        return list(zip(step["actions"], step["observations"], strict=False))


class FailuresAreNotFlagged(Strategy):
    def execute(self, action: Run) -> Run:
        return super().execute(action) | {"failed": False}


FAULTS = [
    Fault(FirstCallOnly, "two_calls"),
    Fault(ErrorsAreKept, "tool_fails"),
    Fault(TwiceAtOnce, "repeated_at_once"),
    Fault(OwnTemperature, "options_arrive", "full"),
    Fault(OwnTools, "offered_tools", "full"),
    Fault(NoBudget, "budget", "full"),
    Fault(AnyModel, "unknown_llm", "full"),
    Fault(ObservationsAsTheyCome, "two_observations", "full"),
    Fault(FailuresAreNotFlagged, "trace", "full"),
    Fault(EmptyState, "initialize"),
    Fault(OneState, "own_state"),
    Fault(AnyState, "no_state"),
    Fault(Crashes, "no_state"),
    Fault(TracebackInError, "no_state"),
    Fault(AsksNothing, "no_question"),
    Fault(OnlyQuery, "question_as_input"),
    Fault(NoInput, "question_as_input"),
    Fault(ContextFirst, "context_is_background"),
    Fault(NoBackground, "context_is_background"),
    Fault(NeverDone, "whole_run"),
    Fault(NoAnswer, "whole_run"),
    Fault(OtherAnswer, "whole_run"),
    Fault(NoFinalize, "whole_run"),
    Fault(FinalizeChanges, "finalize_again"),
    Fault(FinalizeOnce, "finalize_again"),
    Fault(OnlyWhenDone, "finalize_early"),
    Fault(EmptyWhenEarly, "finalize_early"),
    Fault(StepsAgain, "repeated_step"),
    Fault(ToolsTwice, "tools_run"),
    Fault(NoTools, "tools_run"),
    Fault(LosesResults, "tools_run"),
    Fault(NoBound, "bounded"),
    Fault(OneRun, "runs_apart"),
    Fault(DownIsStatus, "model_down"),
    Fault(DownIsAnswer, "model_down"),
    Fault(DownForEver, "model_down"),
    Fault(Unsigned, "forged_state", "full"),
    Fault(SignsTheBeginning, "forged_state", "full"),
    Fault(NoReason, "error_details", "full"),
    Fault(DownIsInternal, "down_code", "full"),
    Fault(ContextFirst, "query_first", "full"),
    Fault(NumbersFromZero, "numbered", "full"),
    Fault(AlwaysAnswered, "stop_reasons", "full"),
    Fault(NoActionIds, "trace", "full"),
    Fault(ChanceIds, "trace", "full"),
    Fault(TraceOfTheLast, "trace", "full"),
    Fault(UsageOfTheRun, "usage", "full"),
    Fault(ExecutesForTheHost, "host_executes", "full"),
    Fault(NoInputOfHost, "host_executes", "full"),
    Fault(AnyObservation, "unknown_observation", "full"),
    Fault(StreamWithoutEnd, "streamed", "full"),
    Fault(StreamTwice, "streamed", "full"),
]
