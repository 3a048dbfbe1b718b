"""A run as messages.

NATIVE: tool turns are assistant messages with tool calls, and tool messages. TEXT: what the model wrote, and
`Observation:` as a message of the user. Two messages of the user never follow each other, and none follows a tool's,
since there are endpoints that refuse it: what the model is told then stands at the end of the message that is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .chat import Message, Tool, ToolCall
from .observations import cut, fenced, harmless
from .prompts import Prompts
from .run import Action, Mode, Run, Step


@dataclass(frozen=True)
class Limits:
    """In characters; None sets none."""

    content: int | None = None  # of the background, and of each observation
    summary: int | None = None  # of what is told of steps that are left out; the newest is told


class _Messages:
    """Messages that grow at their end."""

    def __init__(self) -> None:
        self.all: list[Message] = []

    def add(self, message: Message) -> None:
        calls = tuple(replace(call, arguments=_sound(call.arguments)) for call in message.tool_calls)
        content, reasoning = _sound(message.content), _sound(message.reasoning)
        self.all.append(replace(message, content=content, reasoning=reasoning, tool_calls=calls))

    def tell(self, text: str) -> None:
        last = self.all[-1]
        if last.role in ("user", "tool"):
            self.all[-1] = replace(last, content=f"{last.content}\n\n{_sound(text)}")
        else:
            self.add(Message("user", text))


class Transcript:
    """Writes a run down for a model."""

    def __init__(self, run: Run, tools: Sequence[Tool], prompts: Prompts, limits: Limits = Limits()) -> None:
        self._run, self._tools, self._prompts, self._limits = run, tools, prompts, limits
        self._mode = run.mode or Mode.NATIVE

    def messages(self, final: bool) -> tuple[Message, ...]:
        """All of it; `final`: and that the answer is asked for now."""
        run, out = self._run, _Messages()
        given = run.history[: _system_messages(run)]
        out.add(Message("system", "\n\n".join([*(one.content for one in given), self._system()])))
        if shown_from(run) > len(given):
            out.tell(self._prompts.history_left_out())
        for message in run.history[shown_from(run) :]:
            self._add_earlier(message, out)
        out.tell(self._question())
        if run.left_out:
            out.tell(f"{self._prompts.left_out(run.left_out)}\n{self._fenced(self._summary())}")
        for step in run.steps[run.left_out :]:
            self._add_step(step, out)
        if final:
            out.tell(self._prompts.last_answer(self._mode))
        return tuple(out.all)

    def step(self, step: Step) -> list[Message]:
        """One step alone."""
        out = _Messages()
        out.add(Message("assistant"))
        self._add_step(step, out)
        return out.all[1:]

    def _system(self) -> str:
        listed = "\n".join(map(_listed, self._tools)) if self._mode is Mode.TEXT else ""
        return self._prompts.system(self._mode, self._run.nonce, listed)

    def _question(self) -> str:
        question = f"Question: {self._run.question}" if self._mode is Mode.TEXT else self._run.question
        if not self._run.context:
            return question
        # Often what a search brought: no data of a tool, and not to be obeyed where it looks like a turn of its own.
        context = harmless(self._cut(self._run.context), self._run.nonce)
        return self._prompts.background(context, question)

    def _summary(self) -> str:
        summary, most = self._run.summary, self._limits.summary
        if most is None or len(summary) <= most:
            return summary
        return summary[len(summary) - most :].partition("\n")[2]

    def _add_earlier(self, message: Message, out: _Messages) -> None:
        """One of the history."""
        if message.role == "tool":
            result = self._fenced(message.content, tool=message.name)
            if self._mode is Mode.NATIVE:
                out.add(replace(message, content=result))
            else:
                out.tell(f"Observation:\n{result}")
        elif message.role == "user":
            out.tell(message.content)
        elif message.role == "assistant" and self._mode is Mode.TEXT and message.tool_calls:
            calls = [Action(call.id, call.name, call.arguments) for call in message.tool_calls]
            out.add(replace(message, content=_as_text(message.content, calls), tool_calls=()))
        elif message.content or message.tool_calls or message.opaque:
            out.add(message)

    def _add_step(self, step: Step, out: _Messages) -> None:
        if step.actions and self._mode is Mode.NATIVE:
            ids = _call_ids(step.actions)
            calls = tuple(
                ToolCall(call_id, one.tool, one.arguments, one.opaque)
                for call_id, one in zip(ids, step.actions, strict=True)
            )
            out.add(Message("assistant", step.thought, calls, reasoning=step.reasoning, opaque=step.opaque))
            for call, action in zip(calls, step.actions, strict=True):
                out.add(Message("tool", self._observed(step, action), tool_call_id=call.id, name=call.name))
        else:
            text = step.text or (_as_text(step.thought, step.actions) if self._mode is Mode.TEXT else step.thought)
            if text or step.opaque:
                out.add(Message("assistant", text, reasoning=step.reasoning, opaque=step.opaque))
            if step.actions:
                results = "\n".join(self._observed(step, action) for action in step.actions)
                out.tell(f"Observation:\n{results}")
        if step.note:
            out.tell(step.note)

    def _observed(self, step: Step, action: Action) -> str:
        for one in step.observations:
            if one.action_id == action.id:
                status = "denied" if one.denied else "error" if one.is_error else ""
                return self._fenced(self._cut(one.content), tool=action.tool, status=status)
        return self._fenced(self._prompts.no_result(), tool=action.tool, status="error")

    def _fenced(self, text: str, *, tool: str = "", status: str = "") -> str:
        return fenced(text, self._run.nonce, tool=tool, status=status)

    def _cut(self, text: str) -> str:
        return text if self._limits.content is None else cut(text, self._limits.content, self._prompts)


def _system_messages(run: Run) -> int:
    """How many the history begins with: they stay, as the beginning of our own."""
    return next((place for place, one in enumerate(run.history) if one.role != "system"), len(run.history))


def shown_from(run: Run) -> int:
    """Where in the history what is shown as conversation begins."""
    return max(run.history_left_out, _system_messages(run))


def _listed(tool: Tool) -> str:
    description = tool.description.strip().replace("\n", "\n  ")
    schema = {name: value for name, value in tool.parameters.items() if name != "$schema"}
    arguments = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return f"- {tool.name}: {description}\n  Arguments: {arguments}"


def _as_text(thought: str, actions: Sequence[Action]) -> str:
    """A turn as TEXT mode has it."""
    lines = [f"Thought: {thought}"] if thought else []
    for action in actions:
        lines += [f"Action: {action.tool}", f"Action Input: {action.arguments}"]
    return "\n".join(lines)


def _call_ids(actions: Sequence[Action]) -> list[str]:
    """Those of the model where they tell its calls apart."""
    ids: list[str] = []
    for action in actions:
        ids.append(action.call_id if action.call_id and action.call_id not in ids else action.id)
    return ids


def _sound(text: str) -> str:
    """`text` without halves of characters, which cannot be sent."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
