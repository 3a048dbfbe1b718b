"""`python -m host new KIND NAME [--to DIR]` and `python -m host new --renew DIR`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from host.new import copied
from host.new.generate import generate
from host.new.kind import KINDS
from shared.config import suggest
from shared.errors import StartError

USAGE = "python -m host new KIND NAME"


def run(kind: str | None, name: str | None, to: str | None, renew: str | None) -> int:
    """Makes a project, or renews one; the exit status. Raises StartError."""
    if renew is not None:
        if kind or to:
            raise StartError("command line: --renew DIR stands alone")
        print(copied.renew(Path(renew)))
        return 0
    if not kind:
        raise StartError(f"command line: which plugin? {USAGE}; KIND is {', '.join(KINDS)}")
    if kind not in KINDS:
        raise StartError(f"command line: {_no_kind(kind, name)}")
    if not name:
        raise StartError(f"command line: NAME is missing: what is the plugin to be called? {USAGE}")
    folder = generate(KINDS[kind], name, Path(to) if to else None)
    shown = shlex.quote(os.path.relpath(folder))
    check = shlex.join(["--run", f"python -m {name}"])
    print(f"{shown} is {KINDS[kind].described} that runs. To try next:")
    print(f"  cd {shown}")
    print(f"  python -m {name} --port 0")
    print("  python -m pytest")
    print(f"  python -m host check {check} {KINDS[kind].check}".rstrip())
    print(f"In an environment of its own: make run, make test, make check HECTOR={shlex.quote(sys.executable)}")
    print(f"README.md numbers the edits that make it yours; the first is in {name}/engine.py.")
    return 0


def _no_kind(given: str, name: str | None) -> str:
    """What to say of a KIND that is none."""
    if name in KINDS:
        return f"the kind comes first: python -m host new {name} {given:.60}"
    plain = given.lower().replace("-", "_")
    near = [kind for kind in KINDS if len(plain) > 2 and kind.startswith(plain)]
    return f"there is no kind {given!r:.60}" + (f"; did you mean {near[0]!r}?" if near else suggest(plain, KINDS))
