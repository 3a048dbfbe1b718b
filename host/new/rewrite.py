"""A module of ours as a project has it: what it imports of `shared` and of the contract comes from its own package."""

from __future__ import annotations

import ast
import re

_STUB_IMPORT = re.compile(r"^import (hector_plugins_pb2) as (\w+)$", re.MULTILINE)


def module(text: str, root: str) -> str:
    """`text` with its imports at the top in order again. `root`: `.` inside the package, `NAME.` outside of it.

    Imports of one's own stand last, in one block, as linters want them.
    """
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines: list[str | None] = list(text.splitlines())  # None: it stands elsewhere now
    own: list[tuple[str, str]] = []  # by module
    for node in nodes:
        assert node.end_lineno is not None
        source = ast.get_source_segment(text, node) or ""
        if moved := _own(node, source, root):
            own.append(moved)
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    if not own:
        return text
    last = max(node.end_lineno or 0 for node in nodes)
    head = "\n".join(line for line in lines[:last] if line is not None)
    rest = "\n".join(line for line in lines[last:] if line is not None)
    block = "\n".join(source for _, source in sorted(own))
    return re.sub(r"\n{3,}", "\n\n", head).rstrip("\n") + f"\n\n{block}\n{rest}\n"


def stub(text: str) -> str:
    """A generated module, which imports the one beside it by a bare name, as a module of a package."""
    return _STUB_IMPORT.sub(r"from . import \1 as \2", text)


def _own(node: ast.Import | ast.ImportFrom, source: str, root: str) -> tuple[str, str] | None:
    """Module and statement of an import that comes from the project, else None."""
    if isinstance(node, ast.Import):
        if not node.names[0].name.startswith("hector_plugins_pb2"):
            return None
        return f"{root}shared", f"from {root}shared {source}"
    module = "." * node.level + (node.module or "")
    if module.startswith("hector_plugins_pb2"):
        module, source = f"{root}shared.{module}", source.replace(module, f"{root}shared.{module}", 1)
    elif module == "shared" or module.startswith("shared."):
        module, source = root + module, source.replace(module, root + module, 1)
    elif not module.startswith(root):
        return None
    return module, source
