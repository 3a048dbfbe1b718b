"""tools_http: what an operator is told of settings that a start takes, or does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.tools_http.__main__ import check
from plugins.tools_http.config import Config
from shared.errors import StartError


def config(**settings: Any) -> Config:
    as_text: dict[str, Any] = {name: json.dumps(value) for name, value in settings.items()}
    return Config(**as_text)


def told(capsys: pytest.CaptureFixture[str], **settings: Any) -> list[str]:
    """What --check says on stderr."""
    check(config(**settings))
    return capsys.readouterr().err.splitlines()


def test_declared_tools_that_the_policy_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """--check names each declared tool whose calls the policy would refuse, with the rule and the setting."""
    tools = {
        "order": {"description": "Orders.", "method": "POST", "url": "https://api.test/orders"},
        "inner": {"description": "Inner.", "url": "http://10.1.1.1/{x}", "parameters": {"x": {"type": "string"}}},
        "fine": {"description": "Fine.", "url": "https://api.test/"},
    }
    method, address = told(capsys, tools=tools)
    assert method.startswith("warning: setting tools: 'order': every call of it will be refused: 'POST' is not allowed")
    assert "setting allowed_methods (add POST)" in method
    assert "'inner'" in address
    assert "setting allowed_networks" in address
    assert told(capsys, tools=tools, allowed_methods=["GET", "POST"], allowed_networks=["10.0.0.0/8"]) == []


def test_two_tools_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two tools of one name the error says in which setting the second stands, and what to do."""
    tool = {"description": "D.", "url": "https://api.test/"}
    with pytest.raises(StartError, match="setting tools: there is a tool named fetch_page already; give"):
        check(config(tools={"fetch_page": tool}))
    document = {
        "openapi": "3.0.3",
        "info": {"title": "T", "version": "1"},
        "servers": [{"url": "https://api.test"}],
        "paths": {"/x": {"get": {"operationId": "mine", "responses": {}}}},
    }
    file = tmp_path / "api.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(StartError, match="setting openapi: shop: there is a tool named mine already; set `prefix`"):
        check(config(tools={"mine": tool}, openapi={"shop": {"document": str(file)}}))
