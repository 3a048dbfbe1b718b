"""A ToolProvider of two small tools, and many that are wrong in one thing."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from hector_plugins_pb2_grpc import ToolProviderServicer

from host.check.subject import Options
from shared.errors import Code
from tests.check_faults import Fault, Refused, answering, failed

REPEAT: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "times": {"type": "integer"}, "loud": {"type": "boolean"}},
    "required": ["text", "times"],
    "additionalProperties": False,
}
CLOCK: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}
ALLOWED = Options(tool="repeat", arguments='{"text": "abc ", "times": 5}')
_TYPES = {"string": str, "integer": int, "boolean": bool}


class Tools(ToolProviderServicer):
    """The right one. What the wrong ones change are its small methods."""

    def __init__(self) -> None:
        self.memory: dict[str, Any] = {}
        self.runs = 0

    # ------------------------------------------------ the RPCs

    def ListTools(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ListToolsResponse(tools=self.listed())

    @answering(pb.GetToolSchemaResponse)
    def GetToolSchema(self, request: Any) -> Any:
        tool = self.tool(request.tool)
        return pb.GetToolSchemaResponse(success=True, schema=tool.parameters, schema_json=tool.parameters_json)

    @answering(pb.ExecuteToolResponse)
    def ExecuteTool(self, request: Any) -> Any:
        tool = self.tool(request.tool)
        arguments = self.arguments(request)
        self.check(tool, arguments)
        key = self.key(request)
        if key and key in self.memory:
            return self.memory[key]
        result, truncated = self.cut(self.run(tool.name, arguments), request.max_result_chars)
        reply = pb.ExecuteToolResponse(success=True, result=result, truncated=truncated)
        self.memory[key] = reply
        return reply

    # ------------------------------------------------ what they stand on

    def listed(self) -> list[Any]:
        return [self.described("repeat", REPEAT), self.described("clock", CLOCK)]

    def described(self, name: str, schema: dict[str, Any]) -> Any:
        tool = pb.Tool(name=name, description=f"The tool {name}.", read_only=True, parameters_json=json.dumps(schema))
        json_format.ParseDict(schema, tool.parameters)
        return tool

    def tool(self, name: str) -> Any:
        for tool in self.listed():
            if tool.name == name:
                return tool
        return self.unknown(name)

    def unknown(self, name: str) -> Any:
        raise Refused(Code.NOT_FOUND, f"Unknown tool: {name}", "tool")

    def arguments(self, request: Any) -> dict[str, Any]:
        if not request.parameters_json:
            return self.plain(request.parameters)
        try:
            value = json.loads(request.parameters_json)
        except ValueError as error:
            raise Refused(Code.INVALID_ARGUMENT, f"parameters_json is no JSON: {error}", "parameters_json") from None
        if not isinstance(value, dict):
            raise Refused(Code.INVALID_ARGUMENT, "parameters_json is no object; send one", "parameters_json")
        return value

    def plain(self, struct: Any) -> dict[str, Any]:
        value: dict[str, Any] = json_format.MessageToDict(struct)
        return {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in value.items()}

    def check(self, tool: Any, arguments: dict[str, Any]) -> None:
        schema = json.loads(tool.parameters_json)
        wrong = self.wrong(schema, arguments)
        if wrong:
            raise Refused(Code.INVALID_ARGUMENT, f"{tool.name}: {'; '.join(wrong)}", wrong[0].partition(" ")[0])

    def wrong(self, schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
        wrong = [f"{name} is missing" for name in self.required(schema) if name not in arguments]
        for name, value in arguments.items():
            field = schema["properties"].get(name)
            if field is None:
                if schema["additionalProperties"] is False:
                    wrong.append(f"{name} is unknown")
            elif not self.fits(value, field["type"]):
                wrong.append(f"{name} is no {field['type']}")
        return wrong

    def required(self, schema: dict[str, Any]) -> list[str]:
        return list(schema.get("required", ()))

    def fits(self, value: Any, kind: str) -> bool:
        return isinstance(value, _TYPES[kind])

    def run(self, name: str, arguments: dict[str, Any]) -> str:
        self.runs += 1
        text = str(arguments.get("text", "")) * int(arguments.get("times", 1))
        return text if name == "repeat" else time.ctime()

    def key(self, request: Any) -> str:
        return str(request.call_id)

    def cut(self, result: str, most: int) -> tuple[str, bool]:
        return (result[:most], True) if most and len(result) > most else (result, False)

    failed = staticmethod(failed)


# ---------------------------------------------------------------- the wrong ones, of what the guide has


class NamedTwice(Tools):
    def listed(self) -> list[Any]:
        return [*super().listed(), self.described("repeat", CLOCK)]


class NoName(Tools):
    def listed(self) -> list[Any]:
        return [*super().listed(), self.described("", CLOCK)]


class NoDescription(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        tool = super().described(name, schema)
        tool.description = ""
        return tool


class Shuffled(Tools):
    def ListTools(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.turn = -getattr(self, "turn", -1)
        return pb.ListToolsResponse(tools=self.listed()[:: self.turn])


class NoSchema(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        return super().described(name, {"type": "object", "properties": ["text"]})


class OddTypes(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        return super().described(name, schema | {"properties": {"text": {"type": "str"}}, "required": ["text"]})


class RequiresTheUnknown(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        return super().described(name, schema | {"required": ["text", "colour"]})


class OtherSchemaByName(Tools):
    @answering(pb.GetToolSchemaResponse)
    def GetToolSchema(self, request: Any) -> Any:
        self.tool(request.tool)
        return pb.GetToolSchemaResponse(success=True, schema=self.listed()[0].parameters)


class OtherWords(Tools):
    def unknown(self, name: str) -> Any:
        raise Refused(Code.NOT_FOUND, f"tool {name} not found")


class UnknownIsStatus(Tools):
    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().ExecuteTool(request, context)
        if reply.error.startswith("Unknown tool"):
            context.abort(grpc.StatusCode.NOT_FOUND, reply.error)
        return reply


class UnknownRuns(Tools):
    """What it does not know is the first tool."""

    def unknown(self, name: str) -> Any:
        return self.listed()[1]


class AnyCase(Tools):
    def tool(self, name: str) -> Any:
        return super().tool(name.lower())


class TrimsNames(Tools):
    def tool(self, name: str) -> Any:
        return super().tool(name.strip())


class NothingRequired(Tools):
    def required(self, schema: dict[str, Any]) -> list[str]:
        return []


class OneRequired(Tools):
    """It names the first that is missing."""

    def required(self, schema: dict[str, Any]) -> list[str]:
        return super().required(schema)[:1]


class AnyType(Tools):
    def fits(self, value: Any, kind: str) -> bool:
        return True

    def run(self, name: str, arguments: dict[str, Any]) -> str:
        return "ran all the same"

    def required(self, schema: dict[str, Any]) -> list[str]:
        return []


class OneFault(Tools):
    def wrong(self, schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
        return super().wrong(schema, arguments)[-1:]


class NamesNoFault(Tools):
    def check(self, tool: Any, arguments: dict[str, Any]) -> None:
        try:
            super().check(tool, arguments)
        except Refused as error:
            raise Refused(error.code, "bad arguments") from None


class TakesWhatIsUnknown(Tools):
    def wrong(self, schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
        return super().wrong(schema | {"additionalProperties": True, "required": []}, arguments)


class RunsFirst(Tools):
    """It checks the arguments after it has run: a traceback where it could not."""

    def check(self, tool: Any, arguments: dict[str, Any]) -> None:
        try:
            self.run(tool.name, {"times": arguments["times"]} | arguments)
        except (KeyError, TypeError, ValueError) as error:
            text = f'Traceback (most recent call last):\n  File "/srv/tool.py", line 7, in run\n{error!r}'
            raise Refused(Code.INTERNAL, text) from None


class NoResult(Tools):
    def run(self, name: str, arguments: dict[str, Any]) -> str:
        return ""


class ErrorBesideSuccess(Tools):
    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().ExecuteTool(request, context)
        reply.error = reply.error or "none"
        return reply


class FailsInARow(Tools):
    """After a refused call it refuses."""

    def unknown(self, name: str) -> Any:
        self.broken = True
        return super().unknown(name)

    def run(self, name: str, arguments: dict[str, Any]) -> str:
        if getattr(self, "broken", False):
            raise Refused(Code.INTERNAL, "broken; restart it")
        return super().run(name, arguments)


class OneAtATime(Tools):
    def run(self, name: str, arguments: dict[str, Any]) -> str:
        self.running = getattr(self, "running", 0) + 1
        time.sleep(0.4)
        result = super().run(name, arguments) if self.running == 1 else ""
        self.running -= 1
        return result


class NoGetToolSchema(Tools):
    GetToolSchema = ToolProviderServicer.GetToolSchema


# ---------------------------------------------------------------- the wrong ones, of the additions


class NoStatus(Tools):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        return reply(success=False, error=str(error))


class NoViolations(Tools):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        status = status_pb2.Status(code=error.code, message=str(error))
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="WRONG", domain="plugins.hector.dev"))
        return reply(success=False, error=str(error), status=status)


class NoSchemaText(Tools):
    @answering(pb.GetToolSchemaResponse)
    def GetToolSchema(self, request: Any) -> Any:
        return pb.GetToolSchemaResponse(success=True, schema=self.tool(request.tool).parameters)


class TwoForms(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        tool = super().described(name, schema)
        del tool.parameters.fields["properties"].struct_value.fields["text"]
        return tool


class ReadsAndDestroys(Tools):
    def described(self, name: str, schema: dict[str, Any]) -> Any:
        tool = super().described(name, schema)
        tool.destructive = True
        return tool


class StructWins(Tools):
    def arguments(self, request: Any) -> dict[str, Any]:
        return self.plain(request.parameters) or super().arguments(request)


class AnyJson(Tools):
    def arguments(self, request: Any) -> dict[str, Any]:
        try:
            return super().arguments(request)
        except Refused:
            return {"text": "x", "times": 1}


class RunsAgain(Tools):
    def run(self, name: str, arguments: dict[str, Any]) -> str:
        return f"{self.runs} {super().run(name, arguments)}"

    def key(self, request: Any) -> str:
        return ""


class IgnoresMost(Tools):
    def cut(self, result: str, most: int) -> tuple[str, bool]:
        return result, False


class CutsInSilence(Tools):
    def cut(self, result: str, most: int) -> tuple[str, bool]:
        return super().cut(result, most)[0], False


class StatusOnSuccess(Tools):
    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().ExecuteTool(request, context)
        reply.status.SetInParent()
        return reply


class KnowsTheIdAlone(Tools):
    """What it was asked under an id it answers again, whatever the arguments."""

    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        known = self.memory.get(request.call_id) if request.call_id else None
        return known or super().ExecuteTool(request, context)


class BrokenMetadata(Tools):
    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().ExecuteTool(request, context)
        reply.metadata_json = "[1]"
        return reply


class PromisesMore(Tools):
    """Its output schema promises an object, and it gives text alone."""

    def listed(self) -> list[Any]:
        listed = super().listed()
        for tool in listed:
            tool.output_schema_json = '{"type": "object"}'
        return listed


FAULTS = [
    Fault(KnowsTheIdAlone, "call_id_of_others", "full"),
    Fault(BrokenMetadata, "structured_result", "full"),
    Fault(PromisesMore, "structured_result", "full"),
    Fault(NamedTwice, "named"),
    Fault(NoName, "named"),
    Fault(NoDescription, "named"),
    Fault(Shuffled, "same_list"),
    Fault(NoSchema, "schemas"),
    Fault(OddTypes, "schemas"),
    Fault(RequiresTheUnknown, "schemas"),
    Fault(OtherSchemaByName, "schema_by_name"),
    Fault(NoGetToolSchema, "schema_by_name"),
    Fault(OtherWords, "unknown_tool"),
    Fault(UnknownIsStatus, "unknown_tool"),
    Fault(UnknownRuns, "unknown_tool"),
    Fault(AnyCase, "exact_name"),
    Fault(TrimsNames, "exact_name"),
    Fault(NothingRequired, "missing_argument"),
    Fault(OneRequired, "missing_argument"),
    Fault(AnyType, "wrong_type"),
    Fault(RunsFirst, "wrong_type"),
    Fault(NamesNoFault, "wrong_type"),
    Fault(OneFault, "all_named"),
    Fault(TakesWhatIsUnknown, "unknown_argument"),
    Fault(NoResult, "runs"),
    Fault(ErrorBesideSuccess, "runs"),
    Fault(OneAtATime, "parallel_runs"),
    Fault(FailsInARow, "failure_is_over"),
    Fault(NoStatus, "error_details", "full"),
    Fault(NoViolations, "error_details", "full"),
    Fault(NoSchemaText, "schema_text", "full"),
    Fault(TwoForms, "schema_text", "full"),
    Fault(ReadsAndDestroys, "hints", "full"),
    Fault(StructWins, "json_wins", "full"),
    Fault(AnyJson, "bad_json", "full"),
    Fault(RunsAgain, "call_id", "full"),
    Fault(IgnoresMost, "bounded_result", "full"),
    Fault(CutsInSilence, "bounded_result", "full"),
    Fault(StatusOnSuccess, "clean_success", "full"),
]
