"""An OpenAPI document as tools, with a report of what became of each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import StartError

from ..credentials import CredentialSource, origin_of, secret_texts
from ..operation import Operation, Sender, placeholders, tool
from ..tool import Tool
from .arguments_of import Arguments, Refused
from .body_of import BodyReader
from .catalogue import Catalogue, Entry
from .document import BadReference, References
from .found import LONGEST_PATH, Found, description_of, fitting, names_of
from .parameters_of import ParameterReader
from .report import ImportReport, OperationReport
from .schemas import Remarks, Schemas, TooLarge
from .security import Security
from .servers import NoServer, Servers
from .settings import DocumentSettings
from .values import words_of

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_MOST_OPERATIONS = 10_000  # of a document that are looked at
_MOST_STEPS = 200_000  # schemas of a document that are looked at: GitHub's whole API has 7,500 in its requests

# Why a method may not be used on a URL, empty where it may: the policy's word.
Allowed = Callable[[str, str], str]


@dataclass(frozen=True)
class Imported:
    """What became of one document."""

    tools: Sequence[Tool]
    report: ImportReport


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
        names = names_of(found, self._settings.prefix)
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

    def _found(self) -> Iterator[Found]:
        count = 0
        for path, item in self._document.get("paths", {}).items():
            if path.startswith("x-"):
                continue
            try:
                item, _ = self._references.resolve(item)
            except BadReference as error:
                self._report.operations.append(
                    OperationReport(method="*", path=path[:LONGEST_PATH], status="refused", reason=str(error))
                )
                continue
            for method in _METHODS if isinstance(item, dict) else ():
                about = item.get(method)
                if isinstance(about, dict):
                    count += 1
                    if count > _MOST_OPERATIONS:
                        self._report.notes.append(f"operations after the {_MOST_OPERATIONS}th are left out")
                        return
                    yield Found(method.upper(), path, item, about)

    def _entry(self, found: Found, name: str, used: set[str]) -> Entry | None:
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
                path=found.path[:LONGEST_PATH],
                status="tool",
                tool=name,
                changes=list(remarks.all),
            )
        )
        return entry

    def _add(self, found: Found, status: Any, reason: str) -> None:
        self._report.operations.append(
            OperationReport(method=found.method, path=found.path[:LONGEST_PATH], status=status, reason=reason)
        )

    def _left_out(self, found: Found, name: str, used: set[str]) -> str:
        """Why an operation is not wanted; empty where it is."""
        listed = fitting(self._settings.include, found, name)
        used.update(listed)
        if self._settings.include and not listed:
            return "it is not in `include`"
        if excluded := fitting(self._settings.exclude, found, name):
            used.update(excluded)
            return f"`exclude` has {excluded[0]!r}"
        if found.method == "TRACE":
            return "TRACE is not used"
        named = any(pattern in (name, found.id) for pattern in listed)
        if found.about.get("deprecated") is True and not self._settings.deprecated and not named:
            return "it is deprecated; name it in `include`, or set `deprecated: true`"
        return ""

    def _tool(self, found: Found, name: str, remarks: Remarks) -> Entry:
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
            arguments = Arguments(remarks)
            ParameterReader(self._references, schemas, remarks, chosen.covered, arguments).read(
                found.item.get("parameters"), found.about.get("parameters"), placeholders(path)
            )
            if "requestBody" in found.about:
                BodyReader(self._references, schemas, remarks, arguments).read(found.about["requestBody"], found.method)
            arguments.check()
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
                description=description_of(found, summary, self._title(), arguments.example()),
                parameters=arguments.schema(),
            ),
            method=found.method,
            path=found.path,
            summary=summary,
            tags=[tag for tag in tags[:10] if isinstance(tag, str)] if isinstance(tags, list) else (),
        )

    def _path(self, path: str, remarks: Remarks) -> str:
        if not path.startswith("/") or len(path) > LONGEST_PATH:
            raise Refused(f"its path must begin with a slash and have at most {LONGEST_PATH} characters")
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


def start_error(settings: DocumentSettings, what: str) -> StartError:
    return StartError(f"{settings.place}: the document {settings.shown_source} {what}")
