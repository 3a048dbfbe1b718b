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
    """PYTHONPATH for a process that is to run `module`, or an executable where that is empty; `folder` is the YAML's.

    Neither `folder` nor the current one is in it, unless the module is found there: what lies about there would be
    taken for installed packages of its name. Raises StartError where Python would take another module.
    """
    asked_for = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = [] if str(Path.cwd()) in asked_for else [Path.cwd()]
    path = [Path(place).absolute() for place in sys.path if os.path.isdir(place)]
    home = next((place for place in (_BESIDE_HOST, *path, folder) if module and _has(place, module)), None)
    places = [place for place in (_BESIDE_HOST, *path) if place not in here or place == _BESIDE_HOST]
    if home:
        _check(module, home, places)
        if _is_installed(home):  # then it comes after all of PYTHONPATH
            places = [place for place in places if not _top(place, module).is_dir()]
        places.insert(0, home)
    elif module:  # where it is found by other means, Python finds it too, and else it says so itself
        places += [*here, folder]
    return os.pathsep.join(str(place) for place in dict.fromkeys(places) if not _is_installed(place))


def _check(module: str, home: Path, places: list[Path]) -> None:
    """A package goes before a folder that is none, wherever it stands."""
    others = [place for place in places if place != home and _is_package(_top(place, module))]
    if others and _top(home, module).is_dir() and not _is_package(_top(home, module)):
        raise StartError(
            f"{_top(home, module)} has no __init__.py, so Python would look for {module} in "
            f"{_top(others[0], module)}; add an empty one"
        )


def _top(place: Path, module: str) -> Path:
    return place / module.partition(".")[0]


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _has(place: Path, module: str) -> bool:
    parts = module.split(".")
    return place.joinpath(*parts, "__main__.py").is_file() or place.joinpath(*parts[:-1], parts[-1] + ".py").is_file()


def _is_installed(place: Path) -> bool:
    """Whether an interpreter finds it by itself."""
    known = (Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(place.is_relative_to(path) for path in known)
