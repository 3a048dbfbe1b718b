"""What holds for every ReasoningStrategy.

A strategy thinks with a model and acts with tools. Most of it is tried with the kit's own behind it (`partners.py`;
`{llm}` and `{tools}` in --run stand for their addresses), a part with --prompt on those that are there.
"""

from __future__ import annotations

from typing import Any

import hector_plugins_pb2 as pb

from host.check import partners
from host.check.claims import Claims, NotAsked, expect
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.refusal import Refusal
from host.check.subject import Subject

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
    if check.partners is not None and check.partners.has_llm:
        return text
    if not check.options.prompt:
        raise NotAsked("give --prompt, or {llm} in --run")
    return check.options.prompt


def scripted(check: Subject) -> partners.Partners:
    """The kit's own model. Raises NotAsked."""
    if check.partners is None or not check.partners.has_llm:
        raise NotAsked("give {llm} in --run")
    return check.partners


def with_tools(check: Subject) -> partners.Partners:
    """The kit's own model and tools. Raises NotAsked."""
    if check.partners is None or not (check.partners.has_llm and check.partners.has_tools):
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


def step_while_down(check: Subject, state: bytes) -> Refusal:
    request = pb.ProcessIterationRequest(state=state)
    refusal = check.refused("ProcessIteration", request, "a step with the model down")
    expect(not refusal.reply.done, "a step that failed calls the run done", refusal.reply)
    return refusal


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
    if check.partners is not None and check.partners.has_llm:
        expect("forty-two" in reply.result, f"the model answered forty-two, and the result is {reply.result!r}", reply)


@claims.guide("The question may come as the first input.", QUESTION)
def question_as_input(check: Subject) -> None:
    steps = run(check, begin(check), question(check, "check:answer input"))
    expect(steps[-1].result.strip(), "the run is done, and its result is empty", steps[-1])
    if check.partners is not None and check.partners.has_llm:
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
    before = len(check.partners.executed) if check.partners is not None else 0
    reply = finish(check, begin(check, context=question(check, "check:loop")))
    expect(reply.result.strip(), "the result is empty", reply)
    if check.partners is not None:
        expect(len(check.partners.executed) == before, "Finalize ran a tool", reply)


@claims.guide("The same step taken twice gives the same reply.", REPEATED)
def repeated_step(check: Subject) -> None:
    state = begin(check, context=question(check, "check:add 2 3"))
    before = len(check.partners.executed) if check.partners is not None else 0
    first, second = step(check, state), step(check, state)
    expect(first == second, "the second reply is another", second)
    if check.partners is not None:
        ran = len(check.partners.executed) - before
        expect(ran <= 1, f"the tool was run {ran} times", second)


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    takes_no_odd_bytes(check, "ProcessIteration")
    begin(check, context="What is the time?")
