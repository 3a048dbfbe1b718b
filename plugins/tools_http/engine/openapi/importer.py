"""An OpenAPI document as tools, with a report of what became of each operation."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import StartError

from ..credentials import CredentialSource, origin_of, secret_texts
from ..operation import Operation, Sender, placeholders, tool
from ..tool import Tool
from .arguments_of import Reader, Refused
from .catalogue import Catalogue, Entry
from .document import BadReference, References
from .report import ImportReport, OperationReport
from .schemas import Remarks, Schemas, TooLarge, digest, words_of
from .security import Security
from .servers import NoServer, Servers
from .settings import DocumentSettings

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_MOST_OPERATIONS = 10_000  # of a document that are looked at
_MOST_STEPS = 200_000  # schemas of a document that are looked at: GitHub's whole API has 7,500 in its requests
_LONGEST_DESCRIPTION = 1_000  # characters; APIs of models take 1,024
_LONGEST_PATH = 1_000
_LONGEST_NAME = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")

# Why a method may not be used on a URL, empty where it may: the policy's word.
Allowed = Callable[[str, str], str]


@dataclass(frozen=True)
class Imported:
    """What became of one document."""

    tools: Sequence[Tool]
    report: ImportReport


@dataclass(frozen=True)
class _Found:
    """An operation as the document has it."""

    method: str
    path: str
    item: Mapping[str, Any]  # its path item
    about: Mapping[str, Any]

    @property
    def id(self) -> str:
        name = self.about.get("operationId")
        return name if isinstance(name, str) else ""


class Importer:
    def __init__(
        self,
        document: dict[str, Any],
        settings: DocumentSettings,
        base: str,
        sender: Sender,
        credentials: Mapping[str, CredentialSource],
        allowed: Allowed,
    ) -> None:
        """`base` is the URL of the document, empty for a file; `credentials` are the setting's, by origin. Raises
        StartError."""
        self._document = document
        self._settings = settings
        self._sender = sender
        self._credentials = credentials
        self._allowed = allowed
        self._references = References(document)
        self._siblings = not str(document.get("openapi")).startswith("3.0")
        self._servers = Servers(base, settings.server, settings.server_variables)
        self._patterns: dict[str, bool] = {}
        self._steps = 0
        info = document.get("info")
        info = info if isinstance(info, dict) else {}
        self._report = ImportReport(
            name=settings.name,
            source=settings.shown_source,
            title=words_of(info.get("title"), 100),
            version=words_of(info.get("version"), 40),
        )
        components = document.get("components")
        schemes = components.get("securitySchemes") if isinstance(components, dict) else None
        self._security = Security(
            place=f"{settings.place}: credentials",
            schemes=schemes if isinstance(schemes, dict) else {},
            references=self._references,
            settings=settings.credentials,
            origin=self._credential_origin(),
            from_url=settings.is_url,
            client=sender.client,
            redactor=sender.redactor,
        )
        for secret in secret_texts({"headers": settings.secret_headers}):
            sender.redactor.add(secret)

    def imported(self, max_operations: int) -> Imported:
        found = list(self._found())
        names = _names(found, self._settings.prefix)
        used: set[str] = set()  # patterns of include and exclude
        entries = [
            entry
            for operation in found
            if (entry := self._entry(operation, names[operation.method, operation.path], used)) is not None
        ]
        for pattern in (*self._settings.include, *self._settings.exclude):
            if pattern not in used:
                self._report.notes.append(f"{pattern!r} of include or exclude fits no operation; is it misspelled?")
        if len(entries) > max_operations:
            tools = Catalogue(entries, self._title()).tools(self._settings.tool_prefix)
            self._report.notes.append(
                f"{len(entries)} operations are more than max_operations ({max_operations}): two tools are made, one "
                "that searches operations and one that calls them; include fewer to have a tool of each"
            )
        else:
            tools = [entry.tool for entry in entries]
        self._report.tools = [tool.name for tool in tools]
        return Imported(tools, self._report)

    def _title(self) -> str:
        return f"the API {self._report.title or self._settings.name}"

    def _credential_origin(self) -> str:
        """What credentials are bound to that name no origin; empty: they have to."""
        try:
            if self._settings.server:
                return origin_of(self._servers.url(None))
            if self._settings.is_url:
                return origin_of(self._settings.document)
            return origin_of(self._servers.url(self._document.get("servers")))
        except (NoServer, ValueError):
            return ""

    def _found(self) -> Iterator[_Found]:
        count = 0
        for path, item in self._document.get("paths", {}).items():
            if path.startswith("x-"):
                continue
            try:
                item, _ = self._references.resolve(item)
            except BadReference as error:
                self._report.operations.append(
                    OperationReport(method="*", path=path[:_LONGEST_PATH], status="refused", reason=str(error))
                )
                continue
            for method in _METHODS if isinstance(item, dict) else ():
                about = item.get(method)
                if isinstance(about, dict):
                    count += 1
                    if count > _MOST_OPERATIONS:
                        self._report.notes.append(f"operations after the {_MOST_OPERATIONS}th are left out")
                        return
                    yield _Found(method.upper(), path, item, about)

    def _entry(self, found: _Found, name: str, used: set[str]) -> Entry | None:
        """The tool of an operation; None, and a line in the report, where it becomes none."""
        remarks = Remarks()
        left_out = self._left_out(found, name, used)
        if left_out:
            self._add(found, "left out", left_out)
            return None
        try:
            entry = self._tool(found, name, remarks)
        except (Refused, BadReference, NoServer) as error:
            self._add(found, "refused", str(error))
            return None
        except TooLarge:
            self._add(found, "refused", "its schemas are too large")
            return None
        self._report.operations.append(
            OperationReport(
                method=found.method,
                path=found.path[:_LONGEST_PATH],
                status="tool",
                tool=name,
                changes=list(remarks.all),
            )
        )
        return entry

    def _add(self, found: _Found, status: Any, reason: str) -> None:
        self._report.operations.append(
            OperationReport(method=found.method, path=found.path[:_LONGEST_PATH], status=status, reason=reason)
        )

    def _left_out(self, found: _Found, name: str, used: set[str]) -> str:
        """Why an operation is not wanted; empty where it is."""
        listed = _fitting(self._settings.include, found, name)
        used.update(listed)
        if self._settings.include and not listed:
            return "it is not in `include`"
        if excluded := _fitting(self._settings.exclude, found, name):
            used.update(excluded)
            return f"`exclude` has {excluded[0]!r}"
        if found.method == "TRACE":
            return "TRACE is not used"
        named = any(pattern in (name, found.id) for pattern in listed)
        if found.about.get("deprecated") is True and not self._settings.deprecated and not named:
            return "it is deprecated; name it in `include`, or set `deprecated: true`"
        return ""

    def _tool(self, found: _Found, name: str, remarks: Remarks) -> Entry:
        if self._steps > _MOST_STEPS:
            raise Refused("the schemas of the document are too large altogether; name fewer operations in `include`")
        path = self._path(found.path, remarks)
        server = self._servers.url(found.about.get("servers"), found.item.get("servers"), self._document.get("servers"))
        url, origin = server + path, origin_of(server)
        if refusal := self._allowed(server + "/", found.method):
            raise Refused(refusal)
        requirements = found.about.get("security", self._document.get("security"))
        chosen = self._security.choose(requirements, origin, self._credentials)
        if chosen.remark:
            remarks(chosen.remark)
        schemas = Schemas(self._references, self._siblings, remarks, self._patterns)
        try:
            arguments = Reader(self._references, schemas, remarks, chosen.covered).read(
                found.item.get("parameters"),
                found.about.get("parameters"),
                placeholders(path),
                found.about.get("requestBody"),
                found.method,
            )
        finally:
            self._steps += schemas.steps
        operation = Operation(
            method=found.method,
            url=url,
            origin=origin,
            parameters=arguments.parameters,
            body=arguments.body,
            headers=list(self._settings.public_headers.items()),
            credentials=self._settings.with_headers(chosen.source, origin, self._security.origin),
            idempotency_header=arguments.idempotency_header,
        )
        summary = words_of(found.about.get("summary"), 300)
        tags = found.about.get("tags")
        return Entry(
            tool=tool(
                operation,
                self._sender,
                name=name,
                description=_description(found, summary, self._title(), arguments.example()),
                parameters=arguments.schema(),
            ),
            method=found.method,
            path=found.path,
            summary=summary,
            tags=[tag for tag in tags[:10] if isinstance(tag, str)] if isinstance(tags, list) else (),
        )

    def _path(self, path: str, remarks: Remarks) -> str:
        if not path.startswith("/") or len(path) > _LONGEST_PATH:
            raise Refused(f"its path must begin with a slash and have at most {_LONGEST_PATH} characters")
        if "#" in path:
            remarks("what stands behind the # of the path is not sent")
            path = path.partition("#")[0]
        try:
            names = placeholders(path)
        except ValueError:
            raise Refused("its path has a brace without a partner") from None
        if "{" in path.partition("?")[2]:
            raise Refused("its path has a parameter behind the `?`; describe it as `in: query`")
        if len(set(names)) < len(names):
            remarks("the path has one parameter twice; both get the same value")
        return path


def _description(found: _Found, summary: str, title: str, example: str) -> str:
    """What it does, which operation of which API it is, and a call of it where one can be told."""
    text = words_of(found.about.get("description"), _LONGEST_DESCRIPTION)
    if summary and not text.startswith(summary):
        text = f"{summary.rstrip('.')}. {text}".strip()
    if found.about.get("deprecated") is True:
        text = f"Deprecated. {text}".strip()
    tail = f"Sends {found.method} {found.path[:150]} to {title}."
    if example:
        tail += f" Example: {example}"
    text = text if len(text) + len(tail) < _LONGEST_DESCRIPTION else text[: _LONGEST_DESCRIPTION - len(tail) - 2] + "…"
    return f"{text} {tail}".strip()


def _fitting(patterns: Sequence[str], found: _Found, name: str) -> list[str]:
    """Those of `patterns` that an operation fits: by name, operationId, `GET /path`, path, or `tag:NAME`."""
    if not patterns:
        return []
    tags = found.about.get("tags")
    tags = [f"tag:{tag}" for tag in tags[:50] if isinstance(tag, str)] if isinstance(tags, list) else []
    texts = [name, found.id, f"{found.method} {found.path}", found.path, *tags]
    return [pattern for pattern in patterns if any(fnmatch.fnmatchcase(text, pattern) for text in texts if text)]


def _names(found: Sequence[_Found], prefix: str) -> dict[tuple[str, str], str]:
    """A name for each operation, by method and path: the operationId where it is there once and is a name, else with
    a hash of method and path, so that it stays when others come and go."""
    plain = {(operation.method, operation.path): _plain_name(operation, prefix) for operation in found}
    count: dict[str, int] = {}
    for name in plain.values():
        count[name] = count.get(name, 0) + 1
    names: dict[tuple[str, str], str] = {}
    for operation in found:
        key = operation.method, operation.path
        name = plain[key]
        if count[name] > 1 or not operation.id or len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 9]}_{digest(' '.join(key))}"
        names[key] = name
    return names


def _plain_name(operation: _Found, prefix: str) -> str:
    name = operation.id or f"{operation.method.lower()}{operation.path[:_LONGEST_PATH]}"
    plain = prefix + (_UNSAFE.sub("_", name).strip("_") or operation.method.lower())
    # Some APIs of models want a letter first.
    return plain if plain[0].isalpha() or plain[0] == "_" else f"op_{plain}"


def start_error(settings: DocumentSettings, what: str) -> StartError:
    return StartError(f"{settings.place}: the document {settings.shown_source} {what}")
