"""Errors and how they travel: `shared/errors.py`, `shared/status.py`."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderServicer, LLMProviderStub
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import errors
from shared.config import BaseConfig
from shared.errors import CallerError, Code, InvalidArgument, NotFound, PluginError, ServiceError, quoted
from shared.status import DOMAIN, failure, grpc_code, to_status
from tests.servers import SECONDS, details, served, unhurried
from tests.toy_plugin import SERVICE, Context, register

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PluginError) and kind not in (PluginError, CallerError, ServiceError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_code_and_reason(kind: type[PluginError]) -> None:
    """Every error has a canonical code, an UPPER_SNAKE reason, and is the caller's or the service's."""
    assert kind.code not in (Code.OK, Code.UNKNOWN)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", kind.reason)
    assert issubclass(kind, CallerError) != issubclass(kind, ServiceError)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_in_the_tree(kind: type[PluginError]) -> None:
    """The tree at the top of the module shows every error, under its parent and with its code."""
    lines = (errors.__doc__ or "").splitlines()
    place = next(i for i, line in enumerate(lines) if re.search(rf"── {kind.__name__} ", line))
    assert kind.code.name in lines[place]
    above = next(line for line in reversed(lines[:place]) if "── CallerError" in line or "── ServiceError" in line)
    assert kind.__mro__[1].__name__ in above


def test_the_tree_shows_nothing_else() -> None:
    """Every name in the tree is a class of the module."""
    for name in re.findall(r"── (\w+)", errors.__doc__ or ""):
        assert issubclass(getattr(errors, name), PluginError)


def test_codes_are_grpcs() -> None:
    """Our codes are gRPC's, name and number."""
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}
    assert all(grpc_code(code).name == code.name for code in Code)


def test_status_says_everything() -> None:
    """A status carries code, message, ErrorInfo with our domain, BadRequest and RetryInfo."""
    error = InvalidArgument(
        "no such dimension", reason="BAD_DIMENSION", field="dimension", metadata={"most": "16384"}, retry_after=1.5
    )
    found = details(to_status(error))
    assert (found.status.code, found.status.message) == (3, "no such dimension")
    assert (found.reason, found.domain, found.metadata) == ("BAD_DIMENSION", "plugins.hector.dev", {"most": "16384"})
    assert found.violations == (("dimension", "no such dimension"),)
    assert found.retry_after == 1.5
    assert DOMAIN == "plugins.hector.dev"


def test_status_says_nothing_more_than_needed() -> None:
    """Without a field at fault there is no BadRequest, without a retry no RetryInfo."""
    found = details(to_status(NotFound("no such thing")))
    assert (found.reason, found.violations, found.retry_after) == ("NOT_FOUND", (), None)
    assert len(found.status.details) == 1


def test_several_violations() -> None:
    """Each field at fault has its own violation, in order."""
    error = InvalidArgument("two", violations=[("a", "one"), ("b[1].c", "other")])
    assert details(to_status(error)).violations == (("a", "one"), ("b[1].c", "other"))


def test_failure() -> None:
    """`failure` fills success, error and status of a reply, and leaves the rest as it was."""
    reply = failure(pb.ExecuteToolResponse(success=True, result="kept"), NotFound("Unknown tool: x", reason="NO_TOOL"))
    assert (reply.success, reply.error, reply.result) == (False, "Unknown tool: x", "kept")
    assert details(reply.status).reason == "NO_TOOL"


@unhurried
@given(st.text(alphabet=st.characters(categories=["Cs", "Cc", "L", "S"])))
def test_failure_takes_any_text(text: str) -> None:
    """Any message can be packed into a reply, halves of surrogate pairs included, in 1,000 bytes at most."""
    reply = failure(pb.ExecuteToolResponse(), InvalidArgument(text, field=text, metadata={"a": text}))
    assert len(reply.error.encode()) <= 1_000
    pb.ExecuteToolResponse.FromString(reply.SerializeToString())


def test_quoted() -> None:
    """`quoted` keeps a foreign text on one line, in quotes and short."""
    assert quoted("a\nb\u2028c") == "'a\\nb\\u2028c'"
    assert len(quoted("x" * 10_000)) < 70


# ---------------------------------------------------------------- over a socket

_next: list[PluginError] = []


class Failing(LLMProviderServicer):
    """Raises whatever was put into `_next`."""

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        raise _next[-1]


@pytest.fixture(scope="module")
def failing() -> Iterator[LLMProviderStub]:
    with served(BaseConfig(), SERVICE, lambda server: register(Failing(), server)) as plugin:
        yield LLMProviderStub(plugin.channel())


def fail(stub: LLMProviderStub, error: PluginError) -> grpc.RpcError:
    _next[:] = [error]
    with pytest.raises(grpc.RpcError) as caught:
        stub.GenerateText(pb.GenerateTextRequest(), timeout=SECONDS)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_travels(failing: LLMProviderStub, kind: type[PluginError]) -> None:
    """Every error arrives with its code, message and reason, details in `grpc-status-details-bin`."""
    error = fail(failing, kind("it did not work", field="model", metadata={"a": "b"}, retry_after=0.25))
    assert (error.code().name, error.details()) == (kind.code.name, "it did not work")
    found = details(error)
    assert (found.reason, found.domain, found.metadata) == (kind.reason, DOMAIN, {"a": "b"})
    assert (found.violations, found.retry_after) == ((("model", "it did not work"),), 0.25)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=240))
def test_any_message_survives(failing: LLMProviderStub, text: str) -> None:
    """Any text of up to 1,000 bytes arrives as it was sent: line breaks, NUL, percent signs, every script."""
    error = fail(failing, InvalidArgument(text))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == text
    assert details(error).status.message == text


def test_half_a_character(failing: LLMProviderStub) -> None:
    """Half of a surrogate pair, which UTF-8 does not have, arrives spelled out."""
    assert fail(failing, InvalidArgument("a\ud800b")).details() == "a\\ud800b"


HUGE = {
    "long ASCII": InvalidArgument("x" * 1_000_000),
    "long and four bytes a character": InvalidArgument("\U0001f600" * 100_000),
    "many violations": InvalidArgument("x" * 2_000, violations=[(f"field[{i}]", "y" * 500) for i in range(5_000)]),
    "long fields": InvalidArgument("é" * 2_000, violations=[("ü" * 9_000, "ö" * 9_000)] * 3),
    "much metadata": NotFound("%" * 2_000, metadata={f"key{i}": "é" * 5_000 for i in range(100)}, retry_after=1),
}


@pytest.mark.parametrize("error", HUGE.values(), ids=HUGE.keys())
def test_huge_errors_stay_small(failing: LLMProviderStub, error: PluginError) -> None:
    """However long the message and however many the violations, all headers together stay under 8 KiB."""
    raised = fail(failing, error)
    assert raised.code() is grpc_code(error.code)
    found = details(raised)
    assert found.reason == error.reason
    assert found.status.message.startswith(error.message[:100])
    assert found.status.message.endswith("…")
    sent = quote(raised.details() or "", safe=" ") + base64.b64encode(found.status.SerializeToString()).decode()
    others = len("grpc-status 16 grpc-message grpc-status-details-bin content-type application/grpc") + 5 * 32
    assert len(sent) + others < 8_192


def test_the_first_violations_are_kept(failing: LLMProviderStub) -> None:
    """Where not all violations fit into the headers, the first ones are told."""
    found = details(fail(failing, InvalidArgument("bad", violations=[(f"f{i}", "y" * 100) for i in range(200)])))
    assert found.violations[:4] == tuple((f"f{i}", "y" * 100) for i in range(4))
    small = details(fail(failing, InvalidArgument("bad", violations=[(f"f{i}", "bad") for i in range(60)])))
    assert len(small.violations) == 60
