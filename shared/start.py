"""How a `__main__` ends: a mistake is one line on stderr, never a traceback.

A `__main__` imports at its top only what needs nothing installed, as this module and `cli` do, and the rest in its
`main`: what is missing then is said in a sentence too.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path

from . import logs
from .errors import StartError


def run(main: Callable[[], int]) -> None:
    """Ends the process with the status of `main`; a StartError or a missing library is one line and status 2."""
    try:
        status = main()
    except StartError as error:
        logs.line("error: " + " ".join(str(error).split()))
        status = 2
    except ModuleNotFoundError as error:
        if not _is_of_a_library(error):
            raise
        logs.line("error: " + _remedy(error, main))
        status = 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _is_of_a_library(error: ModuleNotFoundError) -> bool:
    """Whether pip could help. A module that is missing in a package that is there is a bug, and its traceback helps."""
    library = (error.name or "").partition(".")[0]
    if not library:
        return False
    spec = importlib.util.find_spec(library)
    return spec is None or spec.origin is None  # such as `google`, a folder that several distributions share


def _remedy(error: ModuleNotFoundError, main: Callable[[], int]) -> str:
    importer = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{error.name} is not installed for {sys.executable} ({Path(importer.filename).name}, line {importer.lineno}, "
        f"imports it): run the Python of the project's environment, or `pip install {_project(main)}` in the project's "
        "folder, for what its pyproject.toml names"
    )


def _project(main: Callable[[], int]) -> str:
    """As pip takes it, with the extra of the package that runs where the project has one by its name."""
    package = str(main.__globals__.get("__package__") or "").split(".")
    try:
        folder = Path(main.__globals__["__file__"]).absolute().parents[len(package)]
        extras = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
    except (LookupError, OSError, ValueError, TypeError):
        return "."
    return f"'.[{package[-1].replace('_', '-')}]'" if package[-1] in extras else "."
