"""A module of ours as a project has it: what it imports of `shared` and of the contract comes from its own package."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence

_Import = ast.Import | ast.ImportFrom
_STUB_IMPORT = re.compile(r"^import (hector_plugins_pb2) as (\w+)$", re.MULTILINE)


def module(text: str, root: str) -> str:
    """`text` with each block of imports in order again. `root`: `.` inside the package, `NAME.` outside of it.

    Imports of one's own stand last in their block, together, as linters want them.
    """
    lines = text.splitlines()
    for block in sorted(_blocks(ast.parse(text)), key=lambda block: block[0].lineno, reverse=True):
        lines[block[0].lineno - 1 : block[-1].end_lineno] = _sorted(block, text, root)
    return "\n".join(lines) + "\n"


def stub_imports(text: str, level: int) -> str:
    """A module that imports the generated ones by a bare name, as one of a package in which they stand `level` folders
    above it, its own being 1."""
    return _STUB_IMPORT.sub(rf"from {'.' * level} import \1 as \2", text)


def _blocks(tree: ast.Module) -> Iterator[list[_Import]]:
    """The imports that stand one after the other, at the top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            for is_import, block in itertools.groupby(node.body, lambda each: isinstance(each, _Import)):
                if is_import:
                    yield [each for each in block if isinstance(each, _Import)]


def _sorted(block: Sequence[_Import], text: str, root: str) -> list[str]:
    """The lines of a block, as the project has it."""
    kept: list[str] = []
    own: list[tuple[str, str]] = []  # module and statement
    end = block[0].lineno - 1
    lines = text.splitlines()
    for node in block:
        assert node.end_lineno is not None
        kept += lines[end : node.lineno - 1]  # blank lines and comments
        end = node.end_lineno
        source = "\n".join(lines[node.lineno - 1 : end])
        if moved := _own(node, source, root):
            own.append(moved)
        else:
            kept.append(source)
    if not own:
        return lines[block[0].lineno - 1 : end]
    head = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
    return [*([head, ""] if head else []), *(source for _, source in sorted(own))]


def _own(node: _Import, source: str, root: str) -> tuple[str, str] | None:
    """Module and statement of an import that comes from the project, else None."""
    if isinstance(node, ast.Import):
        if not node.names[0].name.startswith("hector_plugins_pb2"):
            return None
        return f"{root}shared", source.replace("import", f"from {root}shared import", 1)
    module = "." * node.level + (node.module or "")
    if module.startswith("hector_plugins_pb2"):
        module, source = f"{root}shared.{module}", source.replace(module, f"{root}shared.{module}", 1)
    elif module == "shared" or module.startswith("shared."):
        module, source = root + module, source.replace(module, root + module, 1)
    elif not module.startswith(root):
        return None
    return module, source
