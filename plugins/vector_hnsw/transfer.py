"""Collections in files: JSON Lines and .npz, both read and written in memory bounded by a batch.

JSON Lines begin with a line that says how the collection was made, then one line an item. An .npz has the same in
arrays that numpy loads: `vectors` (n, dimension), and texts as UTF-8, one after another, with where each ends: `ids`,
`ids_ends`, `metadata`, `metadata_ends`; `about` is the first line of the other form.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import hector_plugins_pb2 as pb
import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from shared.errors import StartError
from shared.structs import dump

_HEAD = "hector_collection"  # the one key of the first line
_BATCH, _BATCH_BYTES = 500, 2 * 2**20
_ROWS = 500  # of an array that are in memory


def write_lines(file: Path, about: pb.CollectionInfo, vectors: Iterable[pb.Vector]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.write(_head(about) + "\n")
        for item in vectors:
            metadata = item.metadata_json or "{}"  # as it is, with the order of its keys
            lines.write(f'{{"id":{dump(item.id)},"vector":{dump(list(item.vector))},"metadata":{metadata}}}\n')


def write_npz(file: Path, about: pb.CollectionInfo, vectors: Iterable[pb.Vector]) -> None:
    with contextlib.ExitStack() as stack:
        columns = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=file.parent))
            for name in ("ids", "ids_ends", "metadata", "metadata_ends", "vectors")
        }
        for item in vectors:
            columns["vectors"].write(np.array(item.vector, "<f4").tobytes())
            for name, text in (("ids", item.id), ("metadata", item.metadata_json or "{}")):
                columns[name].write(text.encode())
                columns[f"{name}_ends"].write(np.array(columns[name].tell(), "<i8").tobytes())
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            about_bytes = _head(about).encode()
            with archive.open("about.npy", "w") as out:
                _write_array(out, "|u1", (len(about_bytes),))
                out.write(about_bytes)
            for name, column in columns.items():
                kind = "<f4" if name == "vectors" else "<i8" if name.endswith("_ends") else "|u1"
                size = column.tell() // np.dtype(kind).itemsize
                shape = (size // about.dimension, about.dimension) if name == "vectors" else (size,)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                    _write_array(out, kind, shape)
                    column.seek(0)
                    shutil.copyfileobj(column, out)


def read(file: Path) -> tuple[pb.CollectionInfo | None, Iterator[pb.Vector]]:
    """How the collection was made, where the file says it, and its items. Raises StartError, also while iterating."""
    items = _naming(file, _read_npz(file) if file.suffix == ".npz" else _read_lines(file))
    about = next(items, None)
    if about is None or isinstance(about, pb.CollectionInfo):
        return about, _only_vectors(items)
    return None, _only_vectors(_chained(about, items))


def batches(collection: str, items: Iterable[pb.Vector]) -> Iterator[pb.UpsertVectorsRequest]:
    """Requests that have neither many items nor many bytes."""
    request, size = pb.UpsertVectorsRequest(collection=collection), 0
    for item in items:
        more = item.ByteSize()
        if request.vectors and (len(request.vectors) == _BATCH or size + more > _BATCH_BYTES):
            yield request
            request, size = pb.UpsertVectorsRequest(collection=collection), 0
        request.vectors.append(item)
        size += more
    if request.vectors:
        yield request


def is_same(item: pb.Vector, there: pb.Vector) -> bool:
    metadata = json.loads(item.metadata_json or "{}") == json.loads(there.metadata_json or "{}")
    return metadata and np.array_equal(np.array(item.vector, "<f4"), np.array(there.vector, "<f4"))


def _head(about: pb.CollectionInfo) -> str:
    return dump({_HEAD: MessageToDict(about, preserving_proto_field_name=True)})


def _about(file: Path, document: Any) -> pb.CollectionInfo:
    try:
        return ParseDict(document, pb.CollectionInfo(), ignore_unknown_fields=True)
    except ParseError as error:
        raise StartError(f"{file} begins with a line about its collection that cannot be read: {error}") from None


def _naming(file: Path, items: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from items
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StartError(f"cannot read {file}: {error}") from None


def _chained(first: Any, items: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from items


def _only_vectors(items: Iterator[Any]) -> Iterator[pb.Vector]:
    yield from items


def _read_lines(file: Path) -> Iterator[pb.CollectionInfo | pb.Vector]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
                if number == 1 and _HEAD in item:
                    yield _about(file, item[_HEAD])
                    continue
                vector = pb.Vector(id=item["id"], vector=item["vector"], metadata_json=dump(item.get("metadata", {})))
            except (ValueError, KeyError, TypeError) as error:
                wanted = '{"id": "…", "vector": [...], "metadata": {...}}'
                raise StartError(f"{file}:{number} is not {wanted}: {error!r}") from None
            yield vector


def _read_npz(file: Path) -> Iterator[pb.CollectionInfo | pb.Vector]:
    with zipfile.ZipFile(file) as archive, contextlib.ExitStack() as stack:
        names = set(archive.namelist())
        if "ids_ends.npy" not in names:
            yield from _read_plain_npz(file)
            return

        def opened(name: str) -> tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]:
            member = stack.enter_context(archive.open(f"{name}.npy"))
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, kind = read_header[version](member)
            return member, kind, shape

        if "about.npy" in names:
            member, _, shape = opened("about")
            yield _about(file, json.loads(_exactly(member, math.prod(shape)))[_HEAD])
        vectors, kind, (count, dimension) = opened("vectors")
        texts = [_texts(opened(name)[0], opened(f"{name}_ends")[0], count) for name in ("ids", "metadata")]
        for start in range(0, count, _ROWS):
            rows = min(_ROWS, count - start)
            part = np.frombuffer(_exactly(vectors, rows * dimension * kind.itemsize), kind).reshape(rows, dimension)
            for row in part:
                yield pb.Vector(id=next(texts[0]), vector=row.tolist(), metadata_json=next(texts[1]))


def _texts(texts: IO[bytes], ends: IO[bytes], count: int) -> Iterator[str]:
    at = 0
    for start in range(0, count, _ROWS):
        rows = min(_ROWS, count - start)
        for end in np.frombuffer(_exactly(ends, rows * 8), "<i8").tolist():
            yield _exactly(texts, end - at).decode()
            at = end


def _read_plain_npz(file: Path) -> Iterator[pb.Vector]:
    """As earlier versions wrote it, and others may: texts in arrays of numpy's."""
    with np.load(file, allow_pickle=False) as arrays:
        for name, vector, metadata in zip(arrays["ids"], arrays["vectors"], arrays["metadata"], strict=True):
            yield pb.Vector(id=str(name), vector=vector.tolist(), metadata_json=str(metadata))


def _exactly(member: IO[bytes], size: int) -> bytes:
    data = member.read(size) if size >= 0 else b""
    if len(data) != size:
        raise ValueError("it ends too early")
    return data


def _write_array(out: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
