"""The contract in proto/hector_plugins.proto: documented throughout, and true to the published plugin guide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import hector_plugins_pb2 as pb

PROTO = Path(__file__).resolve().parent.parent / "proto" / "hector_plugins.proto"

# The guide's RPCs, and ours beside them.
GUIDE_RPCS: dict[str, set[str]] = {
    "LLMProvider": {"GenerateText", "StreamText", "CallTool", "ListModels"},
    "DatabaseProvider": {"CreateCollection", "DeleteCollection", "UpsertVectors", "SearchVectors", "DeleteVectors"},
    "EmbedderProvider": {"EmbedText", "EmbedBatch", "GetDimensions"},
    "ToolProvider": {"ListTools", "ExecuteTool", "GetToolSchema"},
    "ReasoningStrategy": {"Initialize", "ProcessIteration", "Finalize"},
}
ADDED_RPCS: dict[str, set[str]] = {
    "LLMProvider": set(),
    "DatabaseProvider": {
        "ListCollections",
        "DescribeCollection",
        "GetVectors",
        "ListVectors",
        "CountVectors",
        "SearchVectorsBatch",
        "SearchVectorsStream",
        "UpsertVectorsStream",
        "CreateSnapshot",
        "ListSnapshots",
        "RestoreSnapshot",
        "DeleteSnapshot",
        "UpdateMetadata",
        "UpdateCollection",
        "SetAlias",
        "DeleteAlias",
        "ListAliases",
    },
    "EmbedderProvider": {"GetModelInfo", "CountTokens", "EmbedStream"},
    "ToolProvider": set(),
    "ReasoningStrategy": {"StreamIteration"},
}
# (the client streams, the server streams), for the RPCs that do.
STREAMING: dict[str, tuple[bool, bool]] = {
    "LLMProvider.StreamText": (False, True),
    "DatabaseProvider.SearchVectorsStream": (True, True),
    "DatabaseProvider.UpsertVectorsStream": (True, True),
    "EmbedderProvider.EmbedStream": (True, True),
    "ReasoningStrategy.StreamIteration": (False, True),
}

# Every field that the guide's samples read or write.
GUIDE_FIELDS: dict[str, dict[str, int]] = {
    # LLMProvider
    "GenerateTextRequest": {"prompt": 1, "model": 2},
    "GenerateTextResponse": {"text": 1, "usage": 2},
    "TokenUsage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "StreamTextRequest": {"prompt": 1, "model": 2},
    "StreamTextResponse": {"text": 1, "done": 2},
    # DatabaseProvider
    "CreateCollectionRequest": {"name": 1, "dimension": 2},
    "CreateCollectionResponse": {"success": 1, "error": 2},
    "UpsertVectorsRequest": {"collection": 1, "vectors": 2},
    "UpsertVectorsResponse": {"success": 1, "error": 2},
    "Vector": {"id": 1, "vector": 2, "metadata": 3},
    "SearchVectorsRequest": {"collection": 1, "vector": 2, "limit": 3, "threshold": 4},
    "SearchVectorsResponse": {"success": 1, "error": 2, "results": 3},
    "VectorResult": {"id": 1, "score": 2, "metadata": 3},
    # EmbedderProvider
    "EmbedTextRequest": {"text": 1},
    "EmbedTextResponse": {"success": 1, "error": 2, "vector": 3},
    "EmbedBatchRequest": {"texts": 1},
    "EmbedBatchResponse": {"success": 1, "error": 2, "embeddings": 3},
    "Embedding": {"vector": 1},
    # ToolProvider
    "ListToolsResponse": {"tools": 1},
    "Tool": {"name": 1, "description": 2, "parameters": 3},
    "ExecuteToolRequest": {"tool": 1, "parameters": 2},
    "ExecuteToolResponse": {"success": 1, "error": 2, "result": 3},
    # ReasoningStrategy
    "InitializeRequest": {"max_iterations": 1, "temperature": 2, "context": 3},
    "InitializeResponse": {"success": 1, "error": 2, "state": 3},
    "ProcessIterationRequest": {"state": 1, "input": 2},
    "ProcessIterationResponse": {"success": 1, "error": 2, "result": 3, "done": 4, "state": 5},
    "FinalizeRequest": {"state": 1},
    "FinalizeResponse": {"success": 1, "error": 2, "result": 3},
}

# The file holds one declaration a line; these are all the kinds of line it has.
_BLOCK = re.compile(r"(?P<kind>service|message|enum|oneof) (?P<name>\w+) \{(?P<empty>\})?")
_RPC = re.compile(r"rpc (?P<name>\w+)\(.+\) returns \(.+\);")
_FIELD = re.compile(r"(?:(?:repeated|optional) )?(?:map<\w+, \w+>|[\w.]+) (?P<name>\w+) = \d+;")
_VALUE = re.compile(r"(?P<name>\w+) = \d+;")
_FILE_LEVEL = re.compile(r"(syntax|package|import|option)\b.*;")


def declarations(text: str) -> Iterator[tuple[str, bool]]:
    """Yields (dotted name, has a comment) for each service, rpc, message, enum, enum value, oneof and field.

    A comment stands on the same line, or on the line right above with nothing but itself on it. A line of any other
    shape raises ValueError, so that no declaration is passed over.
    """
    path: list[tuple[str, str]] = []  # (kind, name) of the blocks that are open
    comment_above = False
    for number, line in enumerate(text.splitlines(), start=1):
        code, _, comment = (part.strip() for part in line.partition("//"))
        if not code:
            comment_above = bool(comment) or (comment_above and "//" in line)
            continue
        kind = path[-1][0] if path else "file"
        commented = bool(comment) or comment_above
        comment_above = False
        if code == "}":
            path.pop()
            continue
        if match := _BLOCK.fullmatch(code):
            yield ".".join([*(name for _, name in path), match["name"]]), commented
            if not match["empty"]:
                path.append((match["kind"], match["name"]))
            continue
        leaf = {"file": _FILE_LEVEL, "service": _RPC, "message": _FIELD, "oneof": _FIELD, "enum": _VALUE}[kind]
        match = leaf.fullmatch(code)
        if match is None:
            raise ValueError(f"{PROTO.name}:{number}: put one declaration on a line; cannot read {line!r}")
        if kind != "file":
            # As in descriptors, the fields of a oneof belong to its message.
            owners = [name for owner, name in path if owner != "oneof"]
            yield ".".join([*owners, match["name"]]), commented


def described() -> set[str]:
    """The dotted names that `declarations` should find, from the generated descriptors."""
    names: set[str] = set()
    for service in pb.DESCRIPTOR.services_by_name.values():
        names.add(service.name)
        names.update(f"{service.name}.{method.name}" for method in service.methods)
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        names.add(message.name)
        names.update(f"{message.name}.{field.name}" for field in message.fields)
        # `optional` fields have a oneof of their own, which the text does not show.
        names.update(f"{message.name}.{oneof.name}" for oneof in message.oneofs if oneof.name[0] != "_")
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        names.add(enum.name)
        names.update(f"{enum.name}.{value.name}" for value in enum.values)
    return names


def test_everything_is_commented() -> None:
    """Every service, rpc, message, enum, enum value, oneof and field has a comment, above it or on its line."""
    missing = [name for name, commented in declarations(PROTO.read_text(encoding="utf-8")) if not commented]

    assert not missing, f"without a comment in {PROTO.name}: {', '.join(missing)}"


def test_generated_module_is_of_this_file() -> None:
    """The generated module holds exactly the names that the file declares: neither is ahead of the other."""
    found = {name for name, _ in declarations(PROTO.read_text(encoding="utf-8"))}

    assert found == described(), "run `make generate-proto`"


def test_a_missing_comment_is_noticed() -> None:
    """A comment behind a blank line, or at the end of the line before, belongs to something else."""
    text = """
// Above.
message A {
  string x = 1;  // on its line
  string y = 2;
  // A stray one.

  string z = 3;
}
enum E {}
"""
    assert list(declarations(text)) == [("A", True), ("A.x", True), ("A.y", False), ("A.z", False), ("E", False)]


def test_services_and_rpcs() -> None:
    """The guide's five services have the guide's RPCs and the stated additions, and no others."""
    found = {
        name: {method.name for method in service.methods} for name, service in pb.DESCRIPTOR.services_by_name.items()
    }

    assert pb.DESCRIPTOR.package == "hector.plugins.v1"
    assert found == {name: GUIDE_RPCS[name] | ADDED_RPCS[name] for name in GUIDE_RPCS}


def test_streaming_rpcs() -> None:
    """StreamText and StreamIteration stream replies, the two *Stream RPCs both ways, and no other RPC streams."""
    found = {
        f"{service.name}.{method.name}": (method.client_streaming, method.server_streaming)
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.client_streaming or method.server_streaming
    }

    assert found == STREAMING


def test_guide_fields() -> None:
    """In the messages of the guide's samples its fields, and only they, have the numbers below 10."""
    messages = pb.DESCRIPTOR.message_types_by_name
    found = {
        name: {field.name: field.number for field in messages[name].fields if field.number < 10}
        for name in GUIDE_FIELDS
    }

    assert found == GUIDE_FIELDS


def test_enums() -> None:
    """Every enum's value 0 is ENUM_NAME_UNSPECIFIED, and each of its values begins with ENUM_NAME_."""
    enums = pb.DESCRIPTOR.enum_types_by_name
    assert enums
    for name, enum in enums.items():
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
        assert enum.values_by_number[0].name == f"{prefix}UNSPECIFIED"
        assert [value.name for value in enum.values if not value.name.startswith(prefix)] == [], name


def test_replies_with_success() -> None:
    """A reply with `success` has it as bool 1, `error` as string 2, and `status` as google.rpc.Status 10."""
    replies = [m for m in pb.DESCRIPTOR.message_types_by_name.values() if "success" in m.fields_by_name]
    assert replies
    for message in replies:
        fields = message.fields_by_name
        assert {"error", "status"} <= set(fields), message.name
        numbers = [fields[name].number for name in ("success", "error", "status")]
        assert numbers == [1, 2, 10], message.name
        assert fields["success"].type == fields["success"].TYPE_BOOL, message.name
        assert fields["error"].type == fields["error"].TYPE_STRING, message.name
        status = fields["status"].message_type
        assert status is not None, message.name
        assert status.full_name == "google.rpc.Status", message.name
