"""Where a plugin that is a Python module is found: beside `host/`, else on Python's path, else beside the YAML.

So `plugins.embed_st` is the same from every folder, whatever else is named `plugins` there.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from shared.errors import StartError

_BESIDE_HOST = Path(__file__).resolve().parent.parent


def import_path(module: str, folder: Path) -> str:
    """PYTHONPATH for a process that is to run `module`, where `folder` is the YAML's; with none, for any other.

    Raises StartError where Python would take another module of that name.
    """
    places = _places(folder)
    home = next((place for place in places if module and _has(place, module)), None)
    if home is None:  # where it is found by other means, Python finds it too, and else it says so itself
        return os.pathsep.join(str(place) for place in places if not _is_installed(place))
    top = module.partition(".")[0]
    others = [place for place in places if place != home and (place / top / "__init__.py").is_file()]
    if others and (home / top).is_dir() and not (home / top / "__init__.py").is_file():
        raise StartError(
            f"{home / top} has no __init__.py, so Python would look for {module} in {others[0] / top}; add an empty one"
        )
    if _is_installed(home):
        # It comes after all of PYTHONPATH, where no other of that name may stand then.
        others += [place for place in places if place != home and (place / top).is_dir()]
        return os.pathsep.join(str(place) for place in places if not _is_installed(place) and place not in others)
    return os.pathsep.join(str(place) for place in (home, *places) if not _is_installed(place))


def _places(folder: Path) -> list[Path]:
    path = [Path(place).absolute() for place in sys.path if os.path.isdir(place)]
    return list(dict.fromkeys([_BESIDE_HOST, *path, folder]))


def _has(place: Path, module: str) -> bool:
    parts = module.split(".")
    return place.joinpath(*parts, "__main__.py").is_file() or place.joinpath(*parts[:-1], parts[-1] + ".py").is_file()


def _is_installed(place: Path) -> bool:
    """Whether an interpreter finds it by itself."""
    known = (Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(place.is_relative_to(path) for path in known)
