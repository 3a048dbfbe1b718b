"""An OpenAPI document as plain values, whoever wrote it: bounded, and every `$ref` leads to a place within it."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from .yaml_reader import NoYaml
from .yaml_reader import parse as parse_yaml

MOST_BYTES = 16 * 2**20  # of a document; it takes some ten times as much memory as values
_HALF = re.compile(r"\\u[dD][89abcdefABCDEF]")
_MOST_HOPS = 32  # from a `$ref` to one that leads on


class BadDocument(Exception):
    """The document cannot be used. The message is a part of a sentence, the remedy in it."""


class BadReference(Exception):
    """A `$ref` leads to nowhere. The message is a part of a sentence."""


def parse(data: bytes) -> dict[str, Any]:
    """The document that is JSON or YAML, of OpenAPI 3. Raises BadDocument."""
    if len(data) > MOST_BYTES:
        raise BadDocument(f"has more than {MOST_BYTES} bytes; cut it down to the paths that you need")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadDocument("is not UTF-8; convert it") from None
    try:
        if text.lstrip()[:1] == "{":
            try:
                document = json.loads(text, parse_constant=_no_constant)
            except ValueError:
                document = parse_yaml(text)  # YAML may begin with a brace too
        else:
            document = parse_yaml(text)
    except RecursionError:
        raise BadDocument("is nested too deep") from None
    except NoYaml as error:
        raise BadDocument(f"is neither JSON nor YAML that can be read: {error}") from None
    if not isinstance(document, dict):
        raise BadDocument("is no OpenAPI document: it is no mapping")
    if _HALF.search(text) and not _is_sound(document):
        raise BadDocument("has half a character in it (a lone surrogate such as \\ud800), which no message can hold")
    if "swagger" in document:
        raise BadDocument(
            "is of Swagger 2, which is not read; convert it to OpenAPI 3 once, for example with "
            "`npx swagger2openapi FILE` or at https://converter.swagger.io, and use the result"
        )
    version = document.get("openapi")
    if not str(version).startswith(("3.0", "3.1", "3.2")):  # in YAML a 3.1 without quotes is a number
        raise BadDocument("is no OpenAPI document of version 3.0 or 3.1: it has no such `openapi` at its top")
    if not isinstance(document.get("paths", {}), dict):
        raise BadDocument("has `paths` that are no mapping")
    return document


def _is_sound(document: dict[str, Any]) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(name)


class References:
    """The places of one document, by their JSON pointers."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[str, Any] = {}

    def resolve(self, node: Any) -> tuple[Any, str]:
        """Where `node` leads, by as many references as it takes, and the last of them (empty: it has none). Raises
        BadReference."""
        reference, hops = "", 0
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            reference = node["$ref"]
            node = self.at(reference)
            hops += 1
            if hops > _MOST_HOPS:
                raise BadReference(f"$ref {_shown(reference)} leads round in a circle")
        return node, reference

    def at(self, reference: str) -> Any:
        """The place that `reference` names. Raises BadReference."""
        if reference not in self._known:
            self._known[reference] = self._look_up(reference)
        return self._known[reference]

    def _look_up(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise BadReference(
                f"$ref {_shown(reference)} leads out of the document, which is never followed; put all into one "
                "document, for example with `npx @redocly/cli bundle FILE`"
            )
        if reference != "#" and not reference.startswith("#/"):
            raise BadReference(f"$ref {_shown(reference)} names an anchor; write it as a path, #/components/…")
        node: Any = self._root
        for part in unquote(reference[2:]).split("/") if reference != "#" else ():
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdecimal() and len(part) < 9 and int(part) < len(node):
                node = node[int(part)]
            else:
                raise BadReference(f"$ref {_shown(reference)} leads to nothing in the document")
        return node


def _shown(reference: str) -> str:
    return repr(reference if len(reference) <= 100 else reference[:100] + "…")
