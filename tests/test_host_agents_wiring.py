"""What a reasoning plugin that the host starts is told of its LLMs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host import wiring
from host.config import Llm, Plugin
from shared.client import Address
from shared.units import Secret

FOLDER = Path("/nowhere")
CHAT = Plugin("chat", "llm_provider", "plugins.llm_openai", None, {}, FOLDER)


def react(**more: Any) -> Plugin:
    fields: dict[str, Any] = {"path": "mine.my_react", "address": None, "settings": {}} | more
    return Plugin("react", "reasoning_strategy", folder=FOLDER, **fields)


def test_it_gets_addresses_a_key_and_no_tools() -> None:
    """By the variables of its own module's name: where each LLM is, with its token; the host runs the tools."""
    assert wiring.needs(react(), [CHAT, react()]) == [CHAT]
    address = Address("127.0.0.1:81", token=Secret("t"))
    given = wiring.environment(react(), {"chat": address})
    assert json.loads(given["MY_REACT__LLM"]) == {"chat": {"address": "127.0.0.1:81", "token": "t"}}
    assert given["HECTOR_TOOLS"] == "[]"
    assert len(given["MY_REACT__STATE_KEY"]) == 64
    assert given == wiring.environment(react(), {"chat": address})  # so that runs outlive its process
    assert wiring.llm_name(react(), Llm("default", CHAT, "m")) == "chat"


@pytest.mark.parametrize(
    "plugin",
    [
        react(settings={"llm": "10.0.0.7:8081"}),
        react(path="", address=Address("10.0.0.7:8085")),
        Plugin("react", "tool_provider", "plugins.tools_http", None, {}, FOLDER),
    ],
    ids=["its own llm", "not started here", "another kind"],
)
def test_what_is_set_or_runs_elsewhere_is_left_alone(plugin: Plugin) -> None:
    """A plugin with an `llm` of its own, or that the host does not start, is told nothing, and chooses its LLM."""
    assert wiring.needs(plugin, [CHAT]) == []
    assert wiring.environment(plugin, {"chat": Address("127.0.0.1:81")}) == {}
    assert wiring.llm_name(plugin, Llm("default", CHAT, "m")) == ""


def test_another_llm_is_a_reason_to_start_it_anew() -> None:
    """The outline of what it is told changes with the LLM plugins there are, and with nothing else."""
    other = Plugin("other", "llm_provider", "", Address("10.0.0.7:81"), {}, FOLDER)
    assert wiring.outline(react(), [CHAT]) == wiring.outline(react(), [CHAT, react()])
    assert wiring.outline(react(), [CHAT]) != wiring.outline(react(), [CHAT, other])
