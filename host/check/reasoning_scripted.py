"""What holds for every ReasoningStrategy, tried with a model and tools whose every answer is known (`partners.py`)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from google.protobuf import json_format

from host.check import partners
from host.check.claims import Claims, expect
from host.check.reasoning import (
    DOWN,
    REPEATED,
    STATE,
    begin,
    finish,
    run,
    scripted,
    step,
    step_while_down,
    with_tools,
)
from host.check.subject import Subject

claims = Claims("reasoning")


@claims.guide(
    "Tools are run with the model's arguments, and the model gets the result.",
    "It runs tools itself at its `tools` addresses.",
)
def tools_run(check: Subject) -> None:
    behind = with_tools(check)
    before = len(behind.executed)
    steps = run(check, begin(check, context="check:add 20 22"))
    executed = list(behind.executed)[before:]
    expect(len(executed) == 1, f"the model asked for one call, and {len(executed)} were made", steps[-1])
    expect(executed[0].tool == "add", f"the tool is {executed[0].tool!r}, not add", steps[-1])
    expect("42" in steps[-1].result, f"the tool gave 42, and the result is {steps[-1].result!r}", steps[-1])


@claims.guide(
    "Of two calls in one turn both are made, and the model gets both results.",
    "It runs tools itself at its `tools` addresses.",
)
def two_calls(check: Subject) -> None:
    behind = with_tools(check)
    before = len(behind.executed)
    last = run(check, begin(check, context="check:both 20 7"))[-1]
    made = [
        json.loads(call.parameters_json or "{}") or json_format.MessageToDict(call.parameters)
        for call in list(behind.executed)[before:]
    ]
    expect(len(made) == 2, f"the model asked for two calls, and {len(made)} were made", last)
    expect({"a": 20, "b": 7} in made and {"a": 20, "b": 20} in made, f"the calls were made with {made}", last)
    shown = "27" in last.result and "40" in last.result
    expect(shown, f"the tools gave 27 and 40, and the result is {last.result!r}", last)


@claims.guide(
    "A tool that fails does not end the run: the model gets the error.",
    "An observation is text for the model: the result, or the error.",
)
def tool_fails(check: Subject) -> None:
    with_tools(check)
    last = run(check, begin(check, context="check:fail"))[-1]
    shown = partners.TOO_LARGE in last.result
    expect(shown, f"the model was not shown why the tool failed: the result is {last.result!r}", last)


@claims.guide("The same step taken twice at once runs its tools once.", REPEATED)
def repeated_at_once(check: Subject) -> None:
    behind = scripted(check)
    state = begin(check, context="check:add 2 3")
    before = len(behind.executed)
    behind.pause = 0.2
    try:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: step(check, state), range(2))
    finally:
        behind.pause = 0.0
    expect(first == second, "the second reply is another", second)
    ran = len(behind.executed) - before
    expect(ran <= 1, f"the tool was run {ran} times", second)


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
        step_while_down(check, state)
    finally:
        behind.down = False
    steps = run(check, state)
    expect("back" in steps[-1].result, f"with the model back the result is {steps[-1].result!r}", steps[-1])
