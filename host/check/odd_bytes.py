"""Bytes that are no message of the contract, sent to a plugin as if they were."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from host.check.claims import expect
from host.check.subject import Subject

_NO_UTF8 = b"\x0a\x02\xff\xfe"
_NO_MESSAGE = (b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f")


def takes_no_odd_bytes(check: Subject, rpc: str) -> None:
    """Sends what is no message. Raises Broken where it is taken for one."""
    check.raw(rpc, _NO_UTF8)  # whether a text that is no UTF-8 is refused goes by the language; it does no harm
    kind = GetMessageClass(check.service.methods_by_name[rpc].output_type)
    for data in _NO_MESSAGE:
        answer = check.raw(rpc, data)
        if not isinstance(answer, grpc.RpcError):
            reply: Any = kind.FromString(answer)
            says_no = "success" in reply.DESCRIPTOR.fields_by_name and not reply.success
            expect(says_no, f"the bytes {data[:8].hex()}, which are no message, were taken by {rpc}")
