"""What a plugin may be called: a module name of its own, short and plain, that nothing else in Python has."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import sys

from shared.errors import StartError

LONGEST = 40
_OURS = ("shared", "host", "plugins", "proto", "tests", "benchmarks", "hector_plugins_pb2", "hector_plugins_pb2_grpc")
_PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # one underscore at a time: two divide a variable's name


def check_name(name: str) -> None:
    """Raises StartError, saying what is wrong and where possible a name near it that would do."""
    if not _PLAIN.fullmatch(name) or len(name) > LONGEST:
        raise StartError(
            f"NAME must be of a-z, 0-9 and single underscores, begin with a letter and have at most {LONGEST} "
            f"characters, as my_plugin{_nearest(name)}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        why = "is a word of Python's language"
    elif name in sys.stdlib_module_names:
        why = "is a module of Python's own library"
    elif name in _OURS:
        why = "is one of hector-plugins' own"
    elif is_installed(name):
        why = "is installed already, and one of the two would hide the other"
    else:
        return
    raise StartError(f"NAME {name} {why}; choose another, such as my_{name}")


def is_installed(name: str) -> bool:
    """Whether there is a module or a distribution of that name. A folder without Python files in it is neither."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    if spec is not None and spec.origin is not None:
        return True
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _nearest(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[: 2 * LONGEST]).lower())
    near = re.sub(r"^[0-9_]+", "", "_".join(words))[:LONGEST].strip("_")
    return f"; try {near}" if _PLAIN.fullmatch(near) else ""
