"""Output that repeats itself is told from tables, code and numbers, in linear time."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from plugins.reasoning_react.engine.repetition import Repetition, repeats

ROOT = Path(__file__).resolve().parent.parent
LINE = "I will check the page now, and then I will tell you what it says."
PARAGRAPH = "First I look at the page. It says nothing. So I look again.\n\nNow I know. So I look again.\n\n"
LONG = " ".join(f"word{number}" for number in range(200)) + "\n"


def fed(text: str, size: int = 50) -> int | None:
    """After how many characters it was found that the text repeats itself."""
    repetition = Repetition()
    for at in range(0, len(text), size):
        if repetition.feed(text[at : at + size]):
            return at + size
    return None


@pytest.mark.parametrize(
    ("cycle", "most"),
    [
        ("court ", 2_000), ("The the the ", 2_000), (LINE + "\n", 2_000), ("我需要查询天气。", 2_000),
        (PARAGRAPH, 3_000), (LONG, 6_000), ("!", 8_000), ("\n", 8_000), ("0, ", 8_000), ("</s>", 2_000),
    ],
    ids=["word", "words", "line", "chinese", "paragraph", "long", "marks", "newlines", "numbers", "tokens"],
)  # fmt: skip
def test_a_cycle_is_found_soon(cycle: str, most: int) -> None:
    """A token, phrase, line or paragraph over and over is found within a few thousand characters of it."""
    before = "Something else that came before, and that is no cycle at all. " + os.urandom(200).hex()
    found = fed(before + cycle * 20_000)
    assert found is not None
    assert found <= len(before) + most


def test_once_found_it_stays() -> None:
    """What was found stays so, whatever comes behind it."""
    repetition = Repetition()
    assert repetition.feed("again " * 1_000)
    assert repetition.feed("And now for something else.")
    assert repetition.found


def _sources() -> list[Path]:
    library = Path(os.__file__).parent
    files = [file for file in library.rglob("*.py") if "site-packages" not in file.parts]
    ours = [file for pattern in ("*.py", "*.md", "*.json", "*.proto", "*.yaml") for file in ROOT.rglob(pattern)]
    ours = [
        file
        for file in ours
        if not any(part.startswith((".", "node_modules")) for part in file.relative_to(ROOT).parts)
        and file.name != "react_outputs.json"  # it has such outputs
    ]
    return sorted(ours) + random.Random(7).sample(sorted(files), min(600, len(files)))


@pytest.mark.slow
def test_code_and_text_of_people_do_not_repeat() -> None:
    """No file of this repository, and none of 600 of Python's library, counts as repeating itself."""
    found = []
    for file in _sources():
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if fed(text, 4_096) is not None:
            found.append(str(file))
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "| name | value |\n|---|---|\n" + "".join(f"| row {number} | {number % 7} |\n" for number in range(500)),
        "".join(f"{number}, " for number in range(3_000)),
        "\n".join(" ".join("0" for _ in range(30)) for _ in range(40)),
        "=" * 2_000,
        "- [ ] \n" * 100,
        "def f(x):\n    return x\n\n\n" + "".join(f"def f{number}(x):\n    return x\n\n\n" for number in range(400)),
        "".join(f"Step {number}: open the page and read it.\n" for number in range(300)),
        "ha" * 100,
    ],
    ids=["table", "numbers", "zeros", "rule", "boxes", "functions", "steps", "laughter"],
)
def test_tables_lists_and_rules_do_not_repeat(text: str) -> None:
    """What repeats a little, or with other figures in it, is no cycle."""
    assert fed(text) is None
    assert not repeats(text)


@hypothesis.given(st.text(min_size=1, max_size=100), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_any_cycle_is_found_in_any_pieces(cycle: str, sizes: list[int]) -> None:
    """Whatever is repeated for 20,000 characters is found, however it comes."""
    text = cycle * (20_000 // len(cycle) + 1)
    repetition = Repetition()
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        repetition.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    assert repetition.found


@pytest.mark.parametrize("unit", ["a" * 47 + "b", "a" * 100 + "b" + "a" * 101 + "c", "ab" * 23 + "c", " "])
def test_it_takes_little_time_and_memory(unit: str) -> None:
    """1 MB takes well under ten times what it takes on an idle core (0.3 s), and a few kilobytes are kept."""
    text = unit * (1_000_000 // len(unit))
    repetition = Repetition()
    begin = time.process_time()
    for at in range(0, len(text), 100):
        repetition.found = False  # it goes on looking
        repetition.feed(text[at : at + 100])
        assert len(repetition._tail) <= 10_000
    assert time.process_time() - begin < 3
