"""Which models there are: the endpoint's list, and what the settings say of each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from .halves import sound
from .messages import Model

_log = logging.getLogger("hector")

MOST = 5_000  # models of a list; those that follow are left out
CAPABILITIES = ("tools", "vision", "json_schema", "reasoning")
# The names that servers have for the same: OpenRouter, LM Studio, vLLM, Groq, llama.cpp (in `meta`), LiteLLM.
_CONTEXT = (
    "context_length",
    "max_context_length",
    "max_model_len",
    "context_window",
    "n_ctx_train",
    "max_input_tokens",
)
_OUTPUT = ("max_output_tokens", "max_completion_tokens")
_SUPPORTED = {
    "tools": "tools",
    "structured_outputs": "json_schema",
    "reasoning": "reasoning",
    "include_reasoning": "reasoning",
}


def parse(raw: Any) -> list[Model]:
    """The models in a reply of `/models`, whatever its shape; ids are there once, entries without one are left out.

    >>> [model.id for model in parse({"data": [{"id": "a"}, {"name": "b"}, {"id": "a"}, 5]})]
    ['a', 'b']
    """
    listed = raw
    if isinstance(raw, Mapping):
        listed = raw.get("data") or raw.get("models") or []
    found: dict[str, Model] = {}
    for entry in listed if isinstance(listed, list) else []:
        if len(found) == MOST:
            _log.warning("event=models_cut kept=%d listed=%d", MOST, len(listed))
            break
        if isinstance(entry, str):
            entry = {"id": entry}
        if isinstance(entry, Mapping):
            model = _model(entry)
            if model.id:
                found.setdefault(model.id, model)
    return list(found.values())


def known(listed: Iterable[Model], configured: Mapping[str, Mapping[str, Any]], default: str) -> list[Model]:
    """The endpoint's models and the settings', whose word counts more; the default first, then by name."""
    models = {model.id: model for model in listed}
    for name in {*configured, *filter(None, [default])}:
        models[name] = _told(models.get(name, Model(name)), configured.get(name, {}), name == default)
    return sorted(models.values(), key=lambda model: (not model.is_default, model.id))


def _told(model: Model, said: Mapping[str, Any], is_default: bool) -> Model:
    return Model(
        model.id,
        model.owned_by,
        model.created,
        int(said.get("context_length", model.context_length)),
        int(said.get("max_output_tokens", model.max_output_tokens)),
        tuple(said.get("capabilities", model.capabilities)),
        is_default,
    )


def _model(entry: Mapping[str, Any]) -> Model:
    id_ = entry.get("id") or entry.get("name") or entry.get("model")
    owner, created = entry.get("owned_by"), entry.get("created")
    places = [
        entry,
        *(entry[key] for key in ("meta", "top_provider", "model_info") if isinstance(entry.get(key), Mapping)),
    ]
    return Model(
        sound(id_) if isinstance(id_, str) else "",
        sound(owner) if isinstance(owner, str) else "",
        int(created) if isinstance(created, int | float) and 0 < created < 2**53 else 0,
        _length(places, _CONTEXT),
        _length(places, _OUTPUT),
        tuple(_capabilities(entry)),
    )


def _length(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> int:
    values = (place.get(name) for place in places for name in names)
    return next((int(value) for value in values if isinstance(value, int | float) and 0 < value < 2**31), 0)


def _capabilities(entry: Mapping[str, Any]) -> list[str]:
    found = set()
    listed = entry.get("supported_parameters")
    for name in listed[:100] if isinstance(listed, list) else []:
        if isinstance(name, str) and name in _SUPPORTED:
            found.add(_SUPPORTED[name])
    inside = entry.get("architecture")
    inputs = inside.get("input_modalities") if isinstance(inside, Mapping) else None
    if isinstance(inputs, list) and "image" in inputs:
        found.add("vision")
    return [name for name in CAPABILITIES if name in found]
