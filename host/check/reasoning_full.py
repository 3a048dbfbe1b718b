"""The additions of reasoning strategies; the guide's part is in `reasoning.py`."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check import partners
from host.check.claims import Claims, expect
from host.check.reasoning import (
    DOWN,
    HOST,
    LAST,
    QUESTION,
    STATE,
    begin,
    finish,
    question,
    run,
    scripted,
    step,
    step_while_down,
)
from host.check.refusal import DOMAIN, Refusal
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("reasoning")


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
        refusal = step_while_down(check, state)
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


def _has_code(refusal: Refusal, what: str) -> None:
    expect(
        refusal.code not in (None, Code.OK, Code.UNKNOWN),
        f"{what}: the reply has no `status` with a code",
        refusal.reply,
    )
    expect(refusal.domain == DOMAIN, f"{what}: ErrorInfo.domain is {refusal.domain!r}", refusal.reply)
