"""The additions of reasoning strategies; the guide's part is in `reasoning.py`."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check import partners
from host.check.claims import Claims, expect
from host.check.reasoning import (
    DOWN,
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
    with_tools,
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
    with_tools(check)
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
    behind = with_tools(check)
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
    shown = [[a.id for a in traced.actions] for traced in reply.trace]
    expected = [[a.id for a in taken.step.actions] for taken in steps]
    expect(shown == expected, f"the trace has the actions {shown}, the steps {expected}", reply)
    brought = [o.content for traced in reply.trace for o in traced.observations]
    expect(brought == [observations[0].content], f"the trace has the observations {brought}", reply)
    failed = next((taken for taken in run(check, begin(check, query="check:fail")) if taken.step.actions), None)
    flagged = failed is not None and all(o.is_error for o in failed.step.observations)
    expect(flagged, "the observation of a tool that failed is not called an error", failed)


@claims.full(
    "The tokens of a step are the model's, and of the run their sum.", "`usage` of this step, of the whole run."
)
def usage(check: Subject) -> None:
    behind = scripted(check)
    state, total, done = begin(check, query="check:add 5 6"), 0, False
    while not done:
        before = len(behind.asked)
        reply = step(check, state)
        spent = partners.TOKENS * (len(behind.asked) - before)
        expect(reply.usage.total_tokens == spent, f"a step of {spent} tokens has {reply.usage.total_tokens}", reply)
        state, done, total = reply.state, reply.done, total + spent
        expect(total < 1000, "the run is not done", reply)
    before = len(behind.asked)
    reply = finish(check, state)
    total += partners.TOKENS * (len(behind.asked) - before)
    expect(reply.usage.total_tokens == total, f"a run of {total} tokens has {reply.usage.total_tokens}", reply)


@claims.full(
    "Model, temperature and history reach the model.",
    "`temperature` of the LLM; `sampling_temperature` may be 0 and wins; `model`; `history`: oldest first.",
)
def options_arrive(check: Subject) -> None:
    behind = scripted(check)
    history = [pb.ChatMessage(role="user", content="One?"), pb.ChatMessage(role="assistant", content="Two.")]
    for fields, temperature in (({"temperature": 0.25}, 0.25), ({"temperature": 0.5, "sampling_temperature": 0.0}, 0)):
        run(check, begin(check, query="check:answer x", model="check-other", history=history, **fields))
        sent = behind.asked[-1]
        got = sent.options.temperature if sent.options.HasField("temperature") else None
        expect(got == temperature, f"the model got temperature {got}, not {temperature}")
        expect(sent.model == "check-other", f"the model got model={sent.model!r}")
        texts = [message.content for message in sent.messages] + [sent.prompt]
        places = [next((n for n, text in enumerate(texts) if part in text), -1) for part in ("One?", "Two.", "check:")]
        expect(-1 not in places and places == sorted(places), f"history and question came at {places} of {texts}")


@claims.full("Tools of the run are the ones that the model is offered.", "`tools`: tools offered to the model.")
def offered_tools(check: Subject) -> None:
    behind = scripted(check)
    mine = partners.add_tool()
    mine.name = "my_own_add"
    step(check, begin(check, query="check:answer x", tools=[mine], host_executes=True))
    got = [tool.name for tool in behind.asked[-1].tools]
    expect(got == ["my_own_add"], f"the model was offered {got}")


@claims.full("A budget ends the run, and is named.", "Budget: limits on a whole run; STOP_REASON_MAX_TOKENS, ….")
def budget(check: Subject) -> None:
    with_tools(check)
    limits = {
        pb.STOP_REASON_MAX_TOKENS: pb.Budget(max_tokens=2 * partners.TOKENS),
        pb.STOP_REASON_MAX_TOOL_CALLS: pb.Budget(max_tool_calls=2),
    }
    for expected, limit in limits.items():
        last = run(check, begin(check, query="check:loop", max_iterations=20, budget=limit))[-1]
        names = [pb.StopReason.Name(reason) for reason in (last.stop_reason, expected)]
        expect(last.stop_reason == expected, f"it says {names[0]}, not {names[1]}", last)


@claims.full("A model that is not configured is refused, and an address is none.", "`llm`: a name, never an address.")
def unknown_llm(check: Subject) -> None:
    behind = scripted(check)
    for name in ("no-such-model", behind.llm):
        made = check.call("Initialize", pb.InitializeRequest(query="check:answer x", llm=name))
        if made.success:
            request = pb.ProcessIterationRequest(state=made.state)
            check.refused("ProcessIteration", request, f"a step of the model {name!r}")
        else:
            expect(made.error.strip(), f"the model {name!r} is refused without a word", made)


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
