"""What a form for a request is made of: the fields of a message, as reflection describes them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from host.reflection import Method, Reflection

_MOST_MESSAGES = 300  # of one request
_MOST_FIELDS = 500  # of one message
# These have a JSON of their own, which is written as it is.
_AS_JSON = {
    "google.protobuf.Struct": "{}",
    "google.protobuf.Value": "null",
    "google.protobuf.ListValue": "[]",
    "google.protobuf.Any": "{}",
}
_AS_TEXT = {
    "google.protobuf.Duration": "1.5s",
    "google.protobuf.Timestamp": "2026-01-31T12:00:00Z",
    "google.protobuf.FieldMask": "name,address.city",
}
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_UINT64: "integer",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
}


def offered(server: Reflection) -> list[dict[str, Any]]:
    """The services that a plugin is there for, with their RPCs."""
    return [{"name": name, "rpcs": [_about(method) for method in server.methods(name)]} for name in server.offered()]


def _about(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "path": method.path[1:],
        "signature": method.signature,
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
    }


def form(method: Method) -> dict[str, Any]:
    """`message` is the request's name, `messages` the fields of it and of all those inside of it, by name."""
    messages: dict[str, list[dict[str, Any]]] = {}
    waiting = [method.request]
    while waiting and len(messages) < _MOST_MESSAGES:
        kind = waiting.pop()
        if kind.full_name in messages:
            continue
        fields = list(kind.fields)[:_MOST_FIELDS]
        messages[kind.full_name] = [_field(field) for field in fields]
        waiting += [inner for field in fields if (inner := _inner(field)) is not None]
    return {**_about(method), "message": method.request.full_name, "messages": messages}


def _inner(field: FieldDescriptor) -> Descriptor | None:
    """The message that a form for `field` has to know."""
    kind = field.message_type
    if kind is None or kind.full_name in _AS_JSON or kind.full_name in _AS_TEXT:
        return None
    if kind.GetOptions().map_entry:
        return _inner(kind.fields_by_name["value"])
    return kind


def _field(field: FieldDescriptor) -> dict[str, Any]:
    kind = field.message_type
    about: dict[str, Any] = {"name": field.name, "repeated": bool(field.is_repeated)}
    if kind is not None and kind.GetOptions().map_entry:
        value = _field(kind.fields_by_name["value"])
        return {**about, "repeated": False, "type": "map", "value": value}
    group = field.containing_oneof
    if group is not None and len(group.fields) > 1:
        about["oneof"] = group.name
    if kind is None:
        return about | _scalar(field)
    if kind.full_name in _AS_JSON:
        return {**about, "type": "json", "hint": _AS_JSON[kind.full_name]}
    if kind.full_name in _AS_TEXT:
        return {**about, "type": "string", "hint": _AS_TEXT[kind.full_name]}
    return {**about, "type": "message", "message": kind.full_name}


def _scalar(field: FieldDescriptor) -> dict[str, Any]:
    if field.enum_type is not None:
        return {"type": "enum", "values": [value.name for value in field.enum_type.values][:_MOST_FIELDS]}
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return {"type": "bytes", "hint": "Base64"} if is_bytes else {"type": "string"}
    return {"type": _NUMBERS.get(field.cpp_type, "string")}
