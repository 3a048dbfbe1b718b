"""What became of each operation of a document, and why: for `--check`, and for whoever reads the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shared.visible import visible_line

Status = Literal["tool", "left out", "refused"]
_LONGEST = 300  # characters of a remark


@dataclass(frozen=True, kw_only=True)
class OperationReport:
    """`tool` is its name, empty where it became none; `left out` is by a setting's will, `refused` because it cannot
    be a tool. `changes` are what a caller of the API would do otherwise than its document says."""

    method: str
    path: str
    status: Status
    tool: str = ""
    reason: str = ""
    changes: Sequence[str] = ()


@dataclass(kw_only=True)
class ImportReport:
    name: str  # of the setting
    source: str  # file or URL, without user and query
    title: str = ""
    version: str = ""
    tools: Sequence[str] = ()  # the tools that there are, in the end
    operations: list[OperationReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # about the whole document

    def count(self, status: Status) -> int:
        return sum(operation.status == status for operation in self.operations)

    def summary(self) -> str:
        """One line."""
        counts = [f"{self.count(status)} {word}" for status, word in _WORDS if self.count(status)]
        return f"{self.name}: {len(self.tools)} tools of {_shown(self.title or self.source)}: {', '.join(counts)}"

    def table(self) -> str:
        """Plain text, a line an operation, its changes and reasons below it."""
        lines = [self.summary(), *(f"  note: {_shown(note)}" for note in self.notes)]
        for operation in self.operations:
            name = operation.tool or f"({operation.status})"
            lines.append(f"  {operation.method:7} {_shown(operation.path)}  {name}")
            if operation.reason:
                lines.append(f"            {operation.status}: {_shown(operation.reason)}")
            lines += [f"            changed: {_shown(change)}" for change in operation.changes]
        return "\n".join(lines)


_WORDS: tuple[tuple[Status, str], ...] = (("tool", "usable"), ("left out", "left out"), ("refused", "refused"))


def _shown(text: str) -> str:
    """On one line of characters that a terminal does nothing with: a document is anybody's."""
    text = visible_line(" ".join(text[: 2 * _LONGEST].split()))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
