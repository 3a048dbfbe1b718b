"""`.hector/runs/ID.jsonl`: the runs of the page, so that they can be looked at later. The first line is the summary,
each further one an event. The oldest are removed."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from host import atomic
from host.ui.secrets import without_secrets
from shared import logs
from shared.errors import StartError

MOST = 200  # runs
_LARGEST = 2**25  # bytes of one
_ID = re.compile(r"[0-9]{13}-[0-9a-f]{8}")


class KeptRuns:
    """For any thread."""

    def __init__(self, folder: Path, hide: Callable[[], Callable[[str], str]]) -> None:
        """`hide()` gives what takes secrets out of a text."""
        self._folder, self._hide = folder, hide
        self._lock = threading.Lock()

    def keep(self, summary: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
        """In a thread of its own: nobody waits for the disk."""
        threading.Thread(target=self.write, args=(summary, events), name="ui-runs").start()

    def write(self, summary: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
        hide = self._hide()
        lines = [json.dumps(without_secrets(line, hide)) + "\n" for line in (summary, *events)]
        with self._lock:
            try:
                atomic.write(self._folder / f"{summary['run']}.jsonl", "".join(lines))
                for old in sorted(self._files())[:-MOST]:
                    old.unlink(missing_ok=True)
            except (StartError, OSError) as error:
                logs.event("run_not_kept", cause=str(error))

    def summaries(self) -> list[dict[str, Any]]:
        """The summaries, the newest first."""
        found = []
        for file in sorted(self._files(), reverse=True)[:MOST]:
            with contextlib.suppress(OSError, ValueError), file.open(encoding="utf-8") as lines:
                summary = json.loads(lines.readline(_LARGEST))
                if isinstance(summary, dict) and summary.get("run") == file.stem:
                    found.append(summary)
        return found

    def read(self, run: str) -> dict[str, Any] | None:
        """`summary` and `events`; None where there is no such run."""
        if not _ID.fullmatch(run):
            return None
        try:
            with (self._folder / f"{run}.jsonl").open(encoding="utf-8") as file:
                summary, *events = map(json.loads, file.read(_LARGEST).splitlines())
        except (OSError, ValueError):
            return None
        return {"summary": summary, "events": events}

    def remove(self, run: str) -> bool:
        """Whether it was there."""
        if not _ID.fullmatch(run):
            return False
        try:
            (self._folder / f"{run}.jsonl").unlink()
        except OSError:
            return False
        return True

    def _files(self) -> list[Path]:
        return [file for file in self._folder.glob("*.jsonl") if _ID.fullmatch(file.stem)]
