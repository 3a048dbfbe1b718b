"""What an attack brought to light, written to a file each, with everything that is needed to see it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import ROOT

FOLDER = ROOT / "fuzz-findings"


@dataclass(frozen=True)
class Finding:
    plugin: str
    kind: str  # of attack
    what: str  # happened
    seed: str
    steps: Sequence[Mapping[str, str]] = ()  # the last ones: what was sent, and its bytes in hex
    log: Sequence[str] = field(default_factory=tuple)  # the plugin's last lines

    def write(self, folder: Path = FOLDER) -> Path:
        folder.mkdir(exist_ok=True)
        stem = f"{self.plugin}-{self.kind}-{self.seed.replace('/', '-')}"
        path = next(path for number in range(10**6) if not (path := folder / f"{stem}-{number}.json").exists())
        seed = self.seed.partition("/")[0]
        content: dict[str, Any] = {
            "what": self.what,
            "again": f"make fuzz PLUGINS={self.plugin} KINDS={self.kind} SEED={seed}",
            "one step again": f"python -m tests.fuzz.replay ADDRESS {path.name}",
            "plugin": self.plugin,
            "kind": self.kind,
            "seed": self.seed,
            "steps": list(self.steps),
            "log": list(self.log),
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    def __str__(self) -> str:
        return f"{self.plugin} {self.kind}: {self.what}"
