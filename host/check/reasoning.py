"""What holds for every ReasoningStrategy.

A strategy thinks with a model and acts with tools. Most of it is tried with the kit's own behind it (`partners.py`;
`{llm}` and `{tools}` in --run stand for their addresses), a part with --prompt on those that are there.
"""

from __future__ import annotations

from typing import Any

import hector_plugins_pb2 as pb

from host.check import partners
from host.check.claims import Claims, NotAsked, expect
from host.check.subject import DOMAIN, Refusal, Subject
from shared.errors import Code

claims = Claims("reasoning")
LOOP = 'A host that knows only the guide\'s fields loops ProcessIteration(state, "") until `done`, then calls Finalize.'
QUESTION = "The question is `query`, else the first `input`, else `context`; none: reason NO_QUESTION."
STATE = "The whole run lives in `state`; a wrong MAC or version is success=false, never a guess."
REPEATED = "Within a server a repeated (state, input) gets the first one's reply."
DOWN = "An LLM that is down: success=false, UNAVAILABLE, and the state stays usable."
LAST = (
    "Finalize is idempotent; on a run that is not done it makes one last answer without tools and says why it stopped."
)
HOST = "With host_executes the calls come back as pending_actions and the host sends observations, or `input` for one."
_MOST_STEPS = 30


def question(check: Subject, text: str) -> str:
    """`text` where the kit's own model is behind the plugin, else the operator's prompt. Raises NotAsked."""
    if check.partners is not None:
        return text
    if not check.options.prompt:
        raise NotAsked("give --prompt, or {llm} and {tools} in --run")
    return check.options.prompt


def scripted(check: Subject) -> partners.Partners:
    """The kit's own model and tools. Raises NotAsked."""
    if check.partners is None:
        raise NotAsked("give {llm} and {tools} in --run")
    return check.partners


def begin(check: Subject, **fields: Any) -> bytes:
    reply = check.ok("Initialize", pb.InitializeRequest(**fields))
    expect(reply.state, "the state is empty", reply)
    return bytes(reply.state)


def step(check: Subject, state: bytes, text: str = "", **fields: Any) -> Any:
    reply = check.ok("ProcessIteration", pb.ProcessIterationRequest(state=state, input=text, **fields))
    expect(reply.state or reply.done, "the run is not done, and there is no state for the next step", reply)
    return reply


def finish(check: Subject, state: bytes) -> Any:
    return check.ok("Finalize", pb.FinalizeRequest(state=state))


def run(check: Subject, state: bytes, text: str = "") -> list[Any]:
    """The steps of a run to its end; `text` is the first one's input. Raises Broken where it does not end."""
    steps = [step(check, state, text)]
    while not steps[-1].done:
        expect(len(steps) < _MOST_STEPS, f"the run is not done after {_MOST_STEPS} steps", steps[-1])
        steps.append(step(check, steps[-1].state))
    return steps


# ---------------------------------------------------------------- the guide


@claims.guide("Initialize gives a state.", "Initialize makes the state of a new run.")
def initialize(check: Subject) -> None:
    begin(check, max_iterations=3, temperature=0.5, context="What is the time?")
    begin(check)


@claims.guide("Two runs have two states.", STATE)
def own_state(check: Subject) -> None:
    first, second = begin(check, context="What is the time?"), begin(check, context="Where is the sun?")
    expect(first != second, "two runs with two questions have one state")


@claims.guide("What is no state is refused.", STATE)
def no_state(check: Subject) -> None:
    for state, what in (
        (b"", "an empty state"),
        (b"garbage", "a state of seven letters"),
        (bytes(range(256)), "a state of noise"),
        (b"{}", "a state of {}"),
    ):
        check.refused("ProcessIteration", pb.ProcessIterationRequest(state=state), what)
        check.refused("Finalize", pb.FinalizeRequest(state=state), what)


@claims.guide("A step without any question is refused.", QUESTION)
def no_question(check: Subject) -> None:
    check.refused("ProcessIteration", pb.ProcessIterationRequest(state=begin(check)), "a step without a question")


@claims.guide("A run comes to its end, and Finalize gives its answer.", LOOP)
def whole_run(check: Subject) -> None:
    steps = run(check, begin(check, context=question(check, "check:answer forty-two")))
    expect(steps[-1].result.strip(), "the run is done, and its result is empty", steps[-1])
    reply = finish(check, steps[-1].state)
    expect(reply.result == steps[-1].result, "the result of Finalize is not the one of the last step", reply)
    if check.partners is not None:
        expect("forty-two" in reply.result, f"the model answered forty-two, and the result is {reply.result!r}", reply)


@claims.guide("The question may come as the first input.", QUESTION)
def question_as_input(check: Subject) -> None:
    steps = run(check, begin(check), question(check, "check:answer input"))
    expect(steps[-1].result.strip(), "the run is done, and its result is empty", steps[-1])
    if check.partners is not None:
        expect(
            "input" in steps[-1].result,
            f"the model answered `input`, and the result is {steps[-1].result!r}",
            steps[-1],
        )


@claims.guide("Beside an input, context is background and not the question.", QUESTION)
def context_is_background(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, context="Somebody said check:answer background"), "check:answer input")
    expect("input" in steps[-1].result, f"the result is {steps[-1].result!r}, not the answer to the input", steps[-1])
    sent = " ".join(message.content for message in scripted(check).asked[-1].messages)
    expect("background" in sent + scripted(check).asked[-1].prompt, "the model was not shown the context")


@claims.guide("Finalize can be asked again, and answers the same.", LAST)
def finalize_again(check: Subject) -> None:
    steps = run(check, begin(check, context=question(check, "check:answer once")))
    first, second = finish(check, steps[-1].state), finish(check, steps[-1].state)
    expect(first.result == second.result, "the second result is another", second)


@claims.guide("Finalize of a run that is not done gives an answer.", LAST)
def finalize_early(check: Subject) -> None:
    reply = finish(check, begin(check, context=question(check, "check:answer early")))
    expect(reply.result.strip(), "the result is empty", reply)


@claims.guide("The same step taken twice gives the same reply.", REPEATED)
def repeated_step(check: Subject) -> None:
    state = begin(check, context=question(check, "check:add 2 3"))
    before = len(check.partners.executed) if check.partners is not None else 0
    first, second = step(check, state), step(check, state)
    expect(first == second, "the second reply is another", second)
    if check.partners is not None:
        ran = len(check.partners.executed) - before
        expect(ran <= 1, f"the tool was run {ran} times", second)


@claims.guide(
    "Tools are run with the model's arguments, and the model gets the result.",
    "It runs tools itself at its `tools` addresses.",
)
def tools_run(check: Subject) -> None:
    behind = scripted(check)
    before = len(behind.executed)
    steps = run(check, begin(check, context="check:add 20 22"))
    executed = list(behind.executed)[before:]
    expect(len(executed) == 1, f"the model asked for one call, and {len(executed)} were made", steps[-1])
    expect(executed[0].tool == "add", f"the tool is {executed[0].tool!r}, not add", steps[-1])
    expect("42" in steps[-1].result, f"the tool gave 42, and the result is {steps[-1].result!r}", steps[-1])


@claims.guide("max_iterations bounds the steps of a run.", "`max_iterations`: most steps.")
def bounded(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, context="check:loop", max_iterations=3))
    expect(len(steps) <= 4, f"max_iterations is 3, and the run took {len(steps)} steps", steps[-1])
    finish(check, steps[-1].state)


@claims.guide("Runs side by side keep to their own questions.", STATE)
def runs_apart(check: Subject) -> None:
    scripted(check)
    states = {word: begin(check, context=f"check:answer {word}") for word in ("one", "two", "three")}
    for word in ("three", "one", "two"):
        result = run(check, states[word])[-1].result
        expect(word in result, f"the answer to {word!r} is {result!r}")


@claims.guide("With the model down a step fails in words, and the same state goes on when it is back.", DOWN)
def model_down(check: Subject) -> None:
    behind = scripted(check)
    state = begin(check, context="check:answer back")
    behind.down = True
    try:
        _down(check, state)
    finally:
        behind.down = False
    steps = run(check, state)
    expect("back" in steps[-1].result, f"with the model back the result is {steps[-1].result!r}", steps[-1])


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    for data in (b"\x12\x02\xff\xfe", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"):
        answer = check.raw("ProcessIteration", data)
        taken = isinstance(answer, bytes) and pb.ProcessIterationResponse.FromString(answer).success
        expect(not taken, f"the bytes {data[:8].hex()} were taken for a step")
    begin(check, context="What is the time?")


# ---------------------------------------------------------------- the additions


@claims.full("A state that was changed in a single bit is refused.", STATE)
def forged_state(check: Subject) -> None:
    state = begin(check, query="What is the time?")
    places = sorted({0, 1, len(state) // 4, len(state) // 2, 3 * len(state) // 4, len(state) - 1})
    forged = [state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :] for at in places]
    for other in (*forged, state[:-1], state[: len(state) // 2], state + b"\x00", state + state):
        check.refused("ProcessIteration", pb.ProcessIterationRequest(state=other), "a state that was changed")
        check.refused("Finalize", pb.FinalizeRequest(state=other), "a state that was changed")


@claims.full("Failures carry the canonical code and an ErrorInfo.", QUESTION)
def error_details(check: Subject) -> None:
    request = pb.ProcessIterationRequest(state=begin(check))
    refusal = check.refused("ProcessIteration", request, "a step without a question")
    expect(refusal.reason == "NO_QUESTION", f"the reason is {refusal.reason!r}", refusal.reply)
    _has_code(refusal, "a step without a question")
    _has_code(check.refused("ProcessIteration", pb.ProcessIterationRequest(state=b"x"), "no state"), "no state")


@claims.full("With the model down the code is UNAVAILABLE.", DOWN)
def down_code(check: Subject) -> None:
    behind = scripted(check)
    state = begin(check, query="check:answer back")
    behind.down = True
    try:
        refusal = _down(check, state)
    finally:
        behind.down = False
    expect(
        refusal.code == Code.UNAVAILABLE,
        f"the code is {refusal.code.name if refusal.code else 'missing'}",
        refusal.reply,
    )


@claims.full("`query` is the question, before input and context.", QUESTION)
def query_first(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, query="check:answer query", context="nothing but background"))
    expect("query" in steps[-1].result, f"the result is {steps[-1].result!r}", steps[-1])


@claims.full(
    "Steps are numbered from 1, and say when and why the run stopped.",
    "`iteration`: the number of this step, from 1; `stop_reason`: unspecified until `done`.",
)
def numbered(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, query="check:add 1 2"))
    numbers = [reply.iteration for reply in steps]
    expect(numbers == list(range(1, len(steps) + 1)), f"the steps are numbered {numbers}", steps[-1])
    for reply in steps[:-1]:
        expect(reply.stop_reason == pb.STOP_REASON_UNSPECIFIED, "a run that goes on has a stop_reason", reply)
    reason = pb.StopReason.Name(steps[-1].stop_reason)
    expect(steps[-1].stop_reason == pb.STOP_REASON_ANSWERED, f"an answered run has {reason}", steps[-1])
    reply = finish(check, steps[-1].state)
    expect(reply.stop_reason == pb.STOP_REASON_ANSWERED, "Finalize has another stop_reason", reply)


@claims.full("A run that max_iterations stopped says so, and one that Finalize ended too.", LAST)
def stop_reasons(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, query="check:loop", max_iterations=2))
    reason = pb.StopReason.Name(steps[-1].stop_reason)
    expect(steps[-1].stop_reason == pb.STOP_REASON_MAX_ITERATIONS, f"it says {reason}", steps[-1])
    reply = finish(check, step(check, begin(check, query="check:loop")).state)
    reason = pb.StopReason.Name(reply.stop_reason)
    expect(reply.stop_reason == pb.STOP_REASON_FINALIZED_EARLY, f"Finalize says {reason}", reply)


@claims.full(
    "A step shows its actions and what they brought, and Finalize the whole trace.",
    "`step`: thought, actions, observations; `trace`: every step, in order.",
)
def trace(check: Subject) -> None:
    behind = scripted(check)
    steps = run(check, begin(check, query="check:add 3 4"))
    acting = next((reply for reply in steps if reply.step.actions), None)
    expect(acting is not None, "no step shows its action", steps[-1])
    assert acting is not None
    action, observations = acting.step.actions[0], acting.step.observations
    expect(action.tool == "add" and action.id, f"the action is {action.tool!r} {action.id!r}", acting)
    expect(len(observations) == 1, f"one action has {len(observations)} observations", acting)
    expect(observations[0].action_id == action.id, "the observation is another action's", acting)
    expect(
        "7" in observations[0].content and not observations[0].is_error,
        "the observation is not the tool's result",
        acting,
    )
    sent = behind.executed[-1].call_id
    expect(sent == action.id, f"the tool was called with call_id {sent!r}, and the action is {action.id!r}", acting)
    reply = finish(check, steps[-1].state)
    shown = [a.id for traced in reply.trace for a in traced.actions]
    expect(shown == [action.id], f"the trace has the actions {shown}", reply)


@claims.full(
    "The tokens of a step are the model's, and of the run their sum.", "`usage` of this step, of the whole run."
)
def usage(check: Subject) -> None:
    scripted(check)
    steps = run(check, begin(check, query="check:add 5 6"))
    for reply in steps:
        expect(
            reply.usage.total_tokens == 15, f"a step of one turn has {reply.usage.total_tokens} tokens, not 15", reply
        )
    reply = finish(check, steps[-1].state)
    expect(reply.usage.total_tokens == 15 * len(steps), f"the run has {reply.usage.total_tokens} tokens", reply)


@claims.full("With host_executes actions come back, and nothing runs them but the host.", HOST)
def host_executes(check: Subject) -> None:
    behind = scripted(check)
    before = len(behind.executed)
    state = begin(check, query="check:add 20 22", host_executes=True, tools=[partners.add_tool()])
    first = step(check, state)
    expect(len(first.pending_actions) == 1, f"there are {len(first.pending_actions)} pending actions, not 1", first)
    action = first.pending_actions[0]
    expect(action.tool == "add" and '"a"' in action.parameters_json, "the action is not the model's", first)
    expect(not first.done, "the run is done, with an action pending", first)
    observation = pb.Observation(action_id=action.id, content="The sum is 4321.")
    last = step(check, first.state, observations=[observation])
    expect(last.done and "4321" in last.result, f"the result is {last.result!r}", last)
    again = step(check, first.state, "The sum is 1234.")
    expect("1234" in again.result, f"with plain input the result is {again.result!r}", again)
    expect(len(behind.executed) == before, "a tool was run all the same", last)


@claims.full("An observation of an action that is not pending is refused.", HOST)
def unknown_observation(check: Subject) -> None:
    scripted(check)
    state = begin(check, query="check:add 1 1", host_executes=True, tools=[partners.add_tool()])
    first = step(check, state)
    observation = pb.Observation(action_id="no such action", content="x")
    request = pb.ProcessIterationRequest(state=first.state, observations=[observation])
    check.refused("ProcessIteration", request, "an observation of no action")


@claims.full(
    "A step that is streamed ends with its response.",
    "StreamIteration: the last event is what ProcessIteration would have answered.",
)
def streamed(check: Subject) -> None:
    state = begin(check, query=question(check, "check:answer streamed"))
    events = check.stream("StreamIteration", pb.ProcessIterationRequest(state=state))
    kinds = [event.WhichOneof("event") for event in events]
    expect(kinds and kinds[-1] == "response", f"the last event is {kinds[-1:]}", events)
    expect(kinds.count("response") == 1, "there is more than one response", events)
    response = events[-1].response
    expect(response.success and response.state, "the response is no success with a state", events)
    text = "".join(event.answer_delta for event in events)
    expect(
        not text or text.strip() == response.result.strip(),
        f"the deltas are {text!r}, the result {response.result!r}",
        events,
    )


def _down(check: Subject, state: bytes) -> Refusal:
    return check.refused("ProcessIteration", pb.ProcessIterationRequest(state=state), "a step with the model down")


def _has_code(refusal: Refusal, what: str) -> None:
    expect(
        refusal.code not in (None, Code.OK, Code.UNKNOWN),
        f"{what}: the reply has no `status` with a code",
        refusal.reply,
    )
    expect(refusal.domain == DOMAIN, f"{what}: ErrorInfo.domain is {refusal.domain!r}", refusal.reply)
