"""Which files and folders are left out: patterns mean what they mean in git, nested `.gitignore` files too."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

# Written by tools or copied from elsewhere. `--exclude '!vendor/'` has one of them read all the same.
DEFAULT = (
    "node_modules/", "__pycache__/", "vendor/", "build/", "dist/", "target/", "venv/", "site-packages/",
    "bower_components/", "coverage/", "*.egg-info/", "*.min.js", "*.min.css", "*_pb2*.py*", "package-lock.json",
    "npm-shrinkwrap.json", "pnpm-lock.yaml", "~$*",
)  # fmt: skip
_LARGEST = 2**20  # of a .gitignore
# More stars in one name than these make a match take a time that no file of somebody else's may decide.
_MANY_STARS = re.compile(r"(?:\*+[^*/]+){4}")


class Patterns:
    """A list of patterns as in a `.gitignore`. Raises ValueError where one of them is none, naming it."""

    def __init__(self, lines: Sequence[str]) -> None:
        for line in lines:
            if "[:" in line:
                raise ValueError(f"the pattern {line!r} has a class of characters, which is not supported; list them")
            if _MANY_STARS.search(line):
                raise ValueError(f"the pattern {line!r} has more than three stars in one name")
            try:
                _compiled([line])
            except GitIgnorePatternError:
                raise ValueError(f"{line!r} is no pattern") from None
        # `sub/**` is what is in the folder and not the folder itself, which pathspec would leave out with it.
        self._spec = _compiled([re.sub(r"(?<=[^*/])/\*\*/? *$", "/*", line) for line in lines])

    def check(self, path: str) -> bool | None:
        """Whether the last pattern that fits says yes, or no with a `!`; None where none fits. Folders end in "/"."""
        return self._spec.check_file(path).include


def _compiled(lines: Sequence[str]) -> GitIgnoreSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `[[a]`, from the depth of a library, on the user's terminal
        return GitIgnoreSpec.from_lines(lines)


class Ignored:
    """What is left out below `root`."""

    def __init__(self, root: Path, exclude: Sequence[str] = ()) -> None:
        self._root = root
        self._exclude = Patterns([*DEFAULT, *exclude])
        self._applying: dict[Path, Sequence[tuple[Path, Patterns]]] = {}
        # Those above count too, up to the top of the repository.
        self._top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)

    def is_left_out(self, path: Path, *, is_folder: bool) -> bool:
        """Whether it is; the folders above it are not."""
        mark = "/" if is_folder else ""
        patterns = (self._root, self._exclude), *self._in(path.parent)
        verdicts = (each.check(path.relative_to(folder).as_posix() + mark) for folder, each in patterns)
        return next((verdict for verdict in verdicts if verdict is not None), False)

    def _in(self, folder: Path) -> Sequence[tuple[Path, Patterns]]:
        """The .gitignore files that apply in `folder`, the innermost first. What is above is asked for before."""
        if folder not in self._applying:
            outer = () if folder == self._top else self._in(folder.parent)
            own = _read(folder / ".gitignore")
            self._applying[folder] = ((folder, own), *outer) if own else outer
        return self._applying[folder]


def _read(file: Path) -> Patterns | None:
    """Its patterns; lines that are none are passed over, as git does."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _LARGEST:
            return None
        text = file.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return None
    sound = []
    for line in text.replace("\r\n", "\n").split("\n"):
        try:
            Patterns([line])
        except ValueError:
            continue
        sound.append(line)
    return Patterns(sound) if sound else None
