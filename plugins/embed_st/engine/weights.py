"""Files of a model that are not what they should be, told before a library stumbles over them: cut, missing, or a
pointer in their place."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

OTHER_FORMATS = ("onnx", "openvino", "coreml")  # folders of weights that are not loaded here
# What is read beside the weights; other JSON of a repository is nobody's business here.
_SETTINGS = frozenset(
    ("modules.json", "config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "tokenizer.json",
     "tokenizer_config.json", "special_tokens_map.json")
)  # fmt: skip
_POINTER = b"version https://git-lfs"
_LONGEST_END = 2**10  # bytes of blanks, and one bracket before them, that JSON may end in
_LONGEST_HEADER = 100 * 2**20  # bytes of a safetensors header, which safetensors itself bounds so


def damage(folder: Path) -> tuple[str, str] | None:
    """(the file, what is wrong with it) of the first file below `folder` that cannot be whole. Reads headers and ends
    only, and passes over what is not loaded."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        unused = path.suffix == ".bin" and path.with_name("model.safetensors").exists()
        is_weights = path.suffix in (".safetensors", ".bin") and not unused
        if not (is_weights or path.name in _SETTINGS) or name.parts[0] in OTHER_FORMATS:
            continue
        if wrong := _wrong(path):
            return name.as_posix(), wrong
    return None


def _wrong(path: Path) -> str:
    if not path.exists():
        return "is a link to nothing"
    if not path.is_file():
        return ""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
        if start == _POINTER:
            return "is a Git LFS pointer in place of the file"
        if path.suffix == ".json":
            file.seek(max(0, size - _LONGEST_END))
            return "" if file.read().rstrip().endswith((b"}", b"]")) else "is cut off"
        if path.suffix == ".bin":
            # torch's own format of old is none, and cannot be told.
            return "is cut off" if start[:2] == b"PK" and not zipfile.is_zipfile(path) else ""
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            return "is cut off"
        file.seek(8)
        header = file.read(length)
    try:
        tensors = [about for name, about in json.loads(header).items() if name != "__metadata__"]
        end = max((int(about["data_offsets"][1]) for about in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "has a damaged header"
    return "is cut off" if size < 8 + length + end else ""
