"""What a tool is, what one call of it is given, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import CallerError

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of tools and of arguments: every model's API takes it
JSON = Any  # None, bool, int, float, str, lists and dicts of these
ABSENT: Any = object()  # "no structured result": None would be JSON's null


@dataclass
class Audit:
    """Facts for the one log line of a call; never a secret, never the value of a query."""

    host: str = ""
    status: int = 0  # of HTTP; 0: there was none
    bytes: int = 0  # that came over the wire
    rule: str = ""  # of the policy that decided, such as `allowed_hosts`


@dataclass(frozen=True)
class Call:
    """One call of a tool: `deadline` is of time.monotonic(), and the call has ended by then."""

    deadline: float
    id: str = ""  # the caller's call_id
    audit: Audit = field(default_factory=Audit)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a call gave. With `error` it failed, and `text` may still hold what came, such as the body of a 404."""

    text: str
    structured: JSON = ABSENT
    structured_json: str | None = None  # the same as JSON text, in its place where it is large: nobody here reads it
    content_type: str = "text/plain"
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    error: CallerError | None = None


@dataclass(frozen=True, kw_only=True)
class Tool:
    """`run` gets arguments that hold to `parameters`. It returns an Output or raises a CallerError.

    With `run_text` instead, the arguments come as JSON text that nobody has read yet: for tools that take megabytes and
    read them in a worker process, where they are checked too.
    """

    name: str  # a NAME
    description: str  # for the model: what it does, when to use it, an example
    parameters: Mapping[str, Any]  # a JSON Schema of type object
    run: Callable[[dict[str, JSON], Call], Awaitable[Output]] | None = None
    run_text: Callable[[str, Call], Awaitable[Output]] | None = None
    output_schema: Mapping[str, Any] | None = None  # of Output.structured; None: none promised
    read_only: bool = False  # changes nothing outside
    destructive: bool = False  # may delete or overwrite
    idempotent: bool = False  # the same call again changes nothing more
    # Whether a call with these arguments is idempotent, where that is not all or none of the tool's; for `run` only.
    is_idempotent: Callable[[dict[str, JSON]], bool] | None = None
