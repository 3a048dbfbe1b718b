"""`python -m host new KIND NAME [--to DIR]` and `python -m host new --renew DIR`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from host.new import copied
from host.new.generate import generate
from host.new.kind import KINDS
from shared.config import suggest
from shared.errors import StartError


def run(kind: str | None, name: str | None, to: str | None, renew: str | None) -> int:
    """Makes a project, or renews one; the exit status. Raises StartError."""
    if renew is not None:
        if kind or to:
            raise StartError("command line: --renew DIR stands alone")
        print(copied.renew(Path(renew)))
        return 0
    if not kind or not name:
        raise StartError(f"command line: which plugin? python -m host new KIND NAME; KIND is {', '.join(KINDS)}")
    if kind not in KINDS:
        raise StartError(f"command line: there is no kind {kind!r:.60}{suggest(kind, KINDS)}")
    folder = generate(KINDS[kind], name, Path(to) if to else None)
    shown = shlex.quote(os.path.relpath(folder))
    print(f"{shown} is a {KINDS[kind].service} that runs. To try next:")
    print(f"  cd {shown}")
    print(f"  python -m {name} --port 0")
    print("  python -m pytest")
    print(f"README.md numbers the edits that make it yours; the first is in {name}/engine.py.")
    return 0
