"""Whether an event of a reply, or a body with status 200, is an error: each kind of server says so in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What only an error has, where there are no choices: FastAPI and RFC 9457, GraphQL and others, Apigee, Java, Baidu.
_SIGNS = ("detail", "errors", "fault", "exception", "errorMessage", "error_msg", "error_message", "errorCode",
          "error_code")  # fmt: skip
_CODES = ("code", "status", "statusCode", "status_code")
_BAD_WORDS = ("error", "err", "fail", "failed", "failure")
_GOOD_WORDS = ("0", "200", "ok", "success", "none", "null", "false")
_IDS = ("id", "request_id", "requestId", "trace_id", "timestamp", "message", "msg", "code")


def is_error(error: object) -> bool:
    """Whether what stands in `error` says anything: some servers send one with code 0 and no words on every chunk."""
    if not isinstance(error, Mapping):
        return bool(error)
    says = [value for key, value in error.items() if key != "param"]
    return any(value not in (0, "", "0", False, None, [], {}) for value in says)


def is_failed(event: Mapping[str, Any]) -> bool:
    """Whether `event` as a whole is an error.

    >>> events = ({"error": {"message": "no"}}, {"code": 500, "message": "no"}, {"status": "error"}, {"choices": []})
    >>> [is_failed(event) for event in events]
    [True, True, True, False]
    """
    error = event.get("error")
    if (error and is_error(error)) or event.get("object") == "error":
        return True
    if event.get("choices"):
        return False
    base = event.get("base_resp")
    if isinstance(base, Mapping) and base.get("status_code"):
        return True
    words = (event.get("type"), event.get("status"))
    if event.get("success") is False or any(isinstance(word, str) and word.lower() in _BAD_WORDS for word in words):
        return True
    if any(_says(event.get(name)) for name in _SIGNS) or any(_is_bad(event.get(name)) for name in _CODES):
        return True
    # A message and nothing else; beside other things it may be news of how far the server is.
    says = event.get("message") or event.get("msg")
    return isinstance(says, str) and event.keys() <= set(_IDS)


def error_of(choice: Mapping[str, Any]) -> Any:
    """The error inside of a choice; None where it has none."""
    for place in (choice, choice.get("delta"), choice.get("message")):
        if isinstance(place, dict) and "error" in place and is_error(error := place["error"]):
            return error
    return None


def _says(value: object) -> bool:
    return bool(value) and not (isinstance(value, str | int) and str(value).lower() in _GOOD_WORDS)


def _is_bad(code: object) -> bool:
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:4])
    return isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599
