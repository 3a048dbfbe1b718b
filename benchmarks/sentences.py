"""Real text, sentences of the installed packages' documentation, and its embeddings by embed_st to search in.

The embeddings of 100,000 are made once, in some minutes, and kept in `benchmarks/.cache`.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.arguments import parser
from benchmarks.harness import running

Floats = npt.NDArray[np.float32]

CACHE = Path(__file__).parent / ".cache"
_TOGETHER = 256


def embeddings(count: int) -> Floats:
    """Unit vectors of `count` different sentences in an order without meaning, shape (count, 384)."""
    chosen = texts(count)
    key = hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:16]
    path = CACHE / f"sentences-{count}-{key}.npy"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        vectors = _embedded(chosen)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, vectors)
        partial.rename(path)
    found: Floats = np.load(path)
    return found


def texts(count: int) -> list[str]:
    """The same ones on every run with the same packages; the smaller set is the head of the larger."""
    listing = CACHE / "sentences.txt"
    if not listing.exists():
        print("reading the documentation of the installed packages: a minute")
        CACHE.mkdir(exist_ok=True)
        found = sorted(set(_sentences()), key=lambda text: hashlib.sha256(text.encode()).digest())
        listing.write_text("\n".join(found), encoding="utf-8")
    found = listing.read_text(encoding="utf-8").split("\n")
    if len(found) < count:
        raise SystemExit(f"the installed packages' documentation has {len(found)} sentences; choose a --count below")
    return found[:count]


def _sentences() -> Iterator[str]:
    """Sentences of 6 to 40 words in the docstrings of every installed module."""
    warnings.simplefilter("ignore", SyntaxWarning)
    for path in Path(sysconfig.get_path("purelib")).rglob("*.py"):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _in_docstring(ast.get_docstring(node) or "")


def _in_docstring(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if ">>>" in paragraph or paragraph.startswith((" ", "..")):
            continue
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z`])", " ".join(paragraph.split())):
            if 6 <= len(sentence.split()) <= 40 and sentence[0].isupper() and sentence[-1] in ".!?":
                yield sentence


def _embedded(texts: list[str]) -> Floats:
    with running("embed_st") as server, grpc.insecure_channel(server.address) as channel:
        stub = rpc.EmbedderProviderStub(channel)
        blocks = []
        for start in track(range(0, len(texts), _TOGETHER), "embedding sentences"):
            reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts[start : start + _TOGETHER]))
            assert reply.success, reply.error
            blocks.append(np.array([one.vector for one in reply.embeddings], np.float32))
    return np.concatenate(blocks)


if __name__ == "__main__":
    parser(__doc__).parse_args()
    embeddings(100_960)
