"""What the plugin promises: the engine by itself, and over gRPC."""

from __future__ import annotations

import json
import re

import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ToolProviderStub

from host.new.kinds.tool_provider.engine import Engine
from shared.testing import Plugin


def execute(plugin: Plugin, tool: str, **arguments: object) -> pb.ExecuteToolResponse:
    request = pb.ExecuteToolRequest(tool=tool, parameters_json=json.dumps(arguments))
    reply: pb.ExecuteToolResponse = ToolProviderStub(plugin.channel).ExecuteTool(request)
    return reply


def test_the_engine() -> None:
    """The engine works without a server: the clock tells the time of the zone that it is asked for."""
    engine = Engine("UTC")
    assert engine.run(engine.tool("current_time"), {}).endswith(" +0000")
    assert engine.run(engine.tool("current_time"), {"timezone": "Asia/Tokyo"}).endswith(" +0900")


def test_listed_tools_can_be_called(plugin: Plugin) -> None:
    """Each tool that is listed has a schema of type object, the same by itself."""
    client = ToolProviderStub(plugin.channel)
    (tool,) = client.ListTools(pb.ListToolsRequest()).tools
    assert json.loads(tool.parameters_json)["type"] == "object"
    alone = client.GetToolSchema(pb.GetToolSchemaRequest(tool=tool.name))
    assert (alone.success, alone.schema_json) == (True, tool.parameters_json)
    reply = execute(plugin, tool.name, timezone="Asia/Tokyo")
    assert reply.success, reply.error
    assert re.fullmatch(r"\w+day, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0900", reply.result)


def test_an_unknown_tool(plugin: Plugin) -> None:
    """The words for a tool that is not there are those that hosts know."""
    reply = execute(plugin, "fly")
    assert (reply.success, reply.error) == (False, "Unknown tool: fly")


def test_errors_name_the_argument(plugin: Plugin) -> None:
    """Arguments that do not fit are refused before anything runs, each by its name."""
    reply = execute(plugin, "current_time", timezone=7)
    assert not reply.success
    assert "parameters.timezone" in reply.error
    assert "no time zone 'Atlantis'" in execute(plugin, "current_time", timezone="Atlantis").error


def test_a_repeated_call(plugin: Plugin) -> None:
    """A call that comes again with its id gets the answer of the first."""
    client = ToolProviderStub(plugin.channel)
    request = pb.ExecuteToolRequest(tool="current_time", call_id="call-1")
    assert client.ExecuteTool(request).result == client.ExecuteTool(request).result
