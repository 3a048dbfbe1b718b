"""What the strategy tells models, in files that a folder of the operator's can replace one by one.

`$name` in a file is replaced by what it names, `$$` is a dollar sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from shared.bounded_file import read_bounded
from shared.errors import StartError
from shared.nearest import did_you_mean

from ..run import Mode

_OURS = Path(__file__).parent
_LARGEST = 64 * 2**10  # bytes of a file

# What has to stand in each file; nothing else may.
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "system_native": frozenset({"nonce"}),
    "system_text": frozenset({"nonce", "tools"}),
    "no_tools": frozenset(),  # stands for `tools` where there are none
    "background": frozenset({"context", "question"}),
    "last_answer_native": frozenset(),
    "last_answer_text": frozenset(),
    "thought_only_native": frozenset(),
    "thought_only_text": frozenset(),
    "malformed": frozenset({"problem"}),
    "repeated": frozenset({"action"}),
    "left_out": frozenset({"count"}),
    "history_left_out": frozenset(),
    "cut": frozenset({"count"}),
    "no_result": frozenset(),
}


class Prompts:
    """Every text, by what it is for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts`: those of `PLACEHOLDERS`, by the names of the files without `.txt`."""
        self._templates = {name: Template(texts[name]) for name in PLACEHOLDERS}

    def _fill(self, name: str, **values: str) -> str:
        return self._templates[name].substitute(values)

    def system(self, mode: Mode, nonce: str, tools: str) -> str:
        """`tools`: how TEXT mode's list of them reads; empty: there are none."""
        if mode is Mode.NATIVE:
            return self._fill("system_native", nonce=nonce)
        return self._fill("system_text", nonce=nonce, tools=tools or self._fill("no_tools"))

    def background(self, context: str, question: str) -> str:
        return self._fill("background", context=context, question=question)

    def last_answer(self, mode: Mode) -> str:
        """Asks for the answer now, without tools."""
        return self._fill(f"last_answer_{mode.value}")

    def thought_only(self, mode: Mode) -> str:
        """For a Step.note, after a turn that neither acted nor answered."""
        return self._fill(f"thought_only_{mode.value}")

    def malformed(self, problem: str) -> str:
        """For a Step.note, after a turn that could not be read. `problem`: Malformed.problem."""
        return self._fill("malformed", problem=problem)

    def repeated(self, action: str) -> str:
        """For a Step.note, after an action that brought the same as before. `action`: the call, in short."""
        return self._fill("repeated", action=action)

    def left_out(self, count: int) -> str:
        return self._fill("left_out", count=f"{count:,}")

    def history_left_out(self) -> str:
        return self._fill("history_left_out")

    def cut(self, count: int) -> str:
        """Stands for `count` characters."""
        return self._fill("cut", count=f"{count:,}")

    def around_count(self) -> tuple[str, str]:
        """What `cut` has before its count, and what after it."""
        before, _, after = self._fill("cut", count="\0").partition("\0")
        return before, after

    def no_result(self) -> str:
        return self._fill("no_result")


def load(folder: Path | None = None) -> Prompts:
    """The prompts of `folder`, and ours where it has none of a name. Raises StartError, which names the file and, where
    one is at fault, the placeholder."""
    own = _files(folder) if folder is not None else {}
    return Prompts({name: _checked(own.get(name, _OURS / f"{name}.txt"), PLACEHOLDERS[name]) for name in PLACEHOLDERS})


def _files(folder: Path) -> dict[str, Path]:
    try:
        files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".txt"}
    except OSError as error:
        raise StartError(f"cannot read the folder of `prompts`, {folder}: {error.strerror}") from None
    for name in files:
        if name not in PLACEHOLDERS:
            meant = did_you_mean(name, PLACEHOLDERS) or f"; they are {', '.join(PLACEHOLDERS)}"
            raise StartError(f"{name}.txt in the folder of `prompts` is none of the prompts{meant}")
    return files


def _checked(path: Path, expected: frozenset[str]) -> str:
    place = f"the prompt {path.name}"
    try:
        text = read_bounded(path, _LARGEST).decode("utf-8-sig").replace("\r\n", "\n").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read {place}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    if not text:
        raise StartError(f"{place} is empty; remove the file to have the plugin's own")
    template = Template(text)
    if not template.is_valid():
        raise StartError(f"{place} has a $ that begins no placeholder; write $$ for a dollar sign")
    names = set(template.get_identifiers())
    for name in sorted(expected - names):
        raise StartError(f"{place} lacks the placeholder ${name}; without it models do not get to know it")
    for name in sorted(names - expected):
        known = f"it has {', '.join(f'${one}' for one in sorted(expected))}" if expected else "it has none"
        raise StartError(f"{place} has the unknown placeholder ${name}; {known}, and $$ is a dollar sign")
    return text
