"""What the plugin says of itself by reflection: which of the contract's fields it has."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from host.check.contract import FIRST_ADDITION
from host.reflection import Method, Reflection, ReflectionError


class Offered:
    """The plugin's own description of one service, asked for once."""

    def __init__(self, reflection: Reflection, service: ServiceDescriptor) -> None:
        self._reflection = reflection
        self._service = service
        self._methods: dict[str, Method] | None = None  # by name; empty: it has no reflection

    def method(self, rpc: str) -> Method | None:
        """The RPC as the plugin's own reflection describes it, where it does."""
        if self._methods is None:
            try:
                self._methods = {method.name: method for method in self._reflection.methods(self._service.full_name)}
            except (ReflectionError, grpc.RpcError):
                self._methods = {}
        return self._methods.get(rpc)

    def has_additions(self, rpc: str) -> bool:
        """Whether the reply of an RPC has more than the guide's fields, as far as the plugin's reflection says."""
        method = self.method(rpc)
        ours = self._service.methods_by_name[rpc].output_type
        added = {field.name for field in ours.fields if field.number >= FIRST_ADDITION}
        return method is None or not added or any(field.name in added for field in method.reply.fields)

    def missing_field(self, rpc: str, request: Any) -> str:
        """The first field set in `request`, at any depth, that the plugin's messages lack; empty: there is none."""
        method = self.method(rpc)
        return _missing(request, method.request) if method is not None else ""


def _missing(message: Any, theirs: Descriptor) -> str:
    for ours, value in message.ListFields():
        other = theirs.fields_by_name.get(ours.name)
        if other is None:
            return f"{theirs.name}.{ours.name}"
        inside = ours.message_type
        if inside and other.message_type and not inside.full_name.startswith("google."):
            for inner in value[:8] if ours.is_repeated else [value]:
                if missing := _missing(inner, other.message_type):
                    return missing
    return ""
