"""The additions of reasoning strategies for a host that runs the tools itself: `host_executes`."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check import partners
from host.check.claims import Claims, expect
from host.check.reasoning import HOST, begin, scripted, step
from host.check.subject import Subject

claims = Claims("reasoning")


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


@claims.full("Two observations are each their own action's, in any order.", "observations: answers, by action_id.")
def two_observations(check: Subject) -> None:
    behind = scripted(check)
    state = begin(check, query="check:both 20 7", host_executes=True, tools=[partners.add_tool()])
    first = step(check, state)
    expect(len(first.pending_actions) == 2, f"there are {len(first.pending_actions)} pending actions, not 2", first)
    answers = [
        pb.Observation(action_id=action.id, content=f"The sum is {number}.")
        for action, number in zip(first.pending_actions, (111, 222), strict=True)
    ]
    last = step(check, first.state, observations=answers[::-1])
    expect("111" in last.result and "222" in last.result, f"the result is {last.result!r}", last)
    texts = " ".join(message.content for message in behind.asked[-1].messages)
    expect(texts.find("111") < texts.find("222"), "the observations were given to one another's actions", last)


@claims.full("An observation of an action that is not pending is refused.", HOST)
def unknown_observation(check: Subject) -> None:
    scripted(check)
    state = begin(check, query="check:add 1 1", host_executes=True, tools=[partners.add_tool()])
    first = step(check, state)
    observation = pb.Observation(action_id="no such action", content="x")
    request = pb.ProcessIterationRequest(state=first.state, observations=[observation])
    check.refused("ProcessIteration", request, "an observation of no action")
