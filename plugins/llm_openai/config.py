"""Every setting of the LLM provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.config import BaseConfig, setting, suggest, types
from shared.errors import StartError
from shared.units import READERS, Duration, Secret, SecretMapping, SecretUrl, Size, name_for_message

_OF_A_FALLBACK = ("endpoint", "api_key", "model", "organization", "headers", "query", "body", "send_back")
_PUBLIC_OF_A_FALLBACK = ("model", "organization", "send_back")
_OF_A_MODEL = ("context_length", "max_output_tokens", "capabilities")
_OF_TEXTS = ("headers", "query", "aliases")
_CAPABILITIES = ("tools", "vision", "json_schema", "reasoning")


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8081, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    timeout: Duration = setting("10m", "Longest a call may take; 0 sets no bound.", at_least=0)
    # Calls wait for the endpoint and cost little meanwhile: hundreds that hang keep nobody from the rest.
    max_concurrent: int = setting(1000, "Calls under way at once; one more is refused. Health is exempt.", at_least=1)
    endpoint: SecretUrl = setting("", "Base URL, its /v1 included; empty takes OPENAI_BASE_URL, else OpenAI's.")
    api_key: Secret = setting("", "Sent as `Authorization: Bearer KEY`; empty takes OPENAI_API_KEY, else none.")
    api_key_file: str = setting("", "File that holds the key; it wins over api_key.")
    organization: str = setting("", "Sent as `OpenAI-Organization`; empty takes OPENAI_ORG_ID.")
    headers: SecretMapping = setting("{}", "Extra headers of every request, such as Azure's `api-key`.")
    query: SecretMapping = setting("{}", "Extra query parameters, such as Azure's `api-version`.")
    body: SecretMapping = setting("{}", "Extra fields of every request body.")
    model: str = setting("", "Model of requests that name none; empty takes the endpoint's, if it has one only.")
    aliases: dict[str, Any] = setting("{}", "Names that stand for models: {fast: gpt-4o-mini}.")
    models: dict[str, Any] = setting("{}", "What /models does not say: {NAME: {context_length, max_output_tokens, …}}.")
    send_back: bool = setting("true", "Reasoning and signatures of earlier turns go back to where they are from.")
    temperature: float | None = setting("", "For requests without one; empty leaves it to the endpoint.", at_least=0)
    max_tokens: int | None = setting("", "For requests without one; empty leaves it to the endpoint.", at_least=1)
    max_retries: int = setting(2, "Further tries at an endpoint that is busy or failing.", at_least=0, at_most=10)
    fallbacks: SecretMapping = setting("{}", "Asked in turn when that fails: {NAME: {endpoint, api_key, model, …}}.")
    connect_timeout: Duration = setting("10s", "Longest a connection may take.", at_least=0.001)
    read_timeout: Duration = setting("5m", "Longest the endpoint may be silent.", at_least=0.001)
    max_response_bytes: Size = setting("64MiB", "Longest reply that is kept for a caller.", at_least=1)
    concurrency: int = setting(1000, "Requests under way at one endpoint; more wait their turn.", at_least=1)
    proxy: SecretUrl = setting("", "URL of a proxy; empty takes HTTPS_PROXY and the like, `none` takes none.")
    ca_bundle: str = setting("", "PEM file of the authorities to trust, in place of the usual ones.")

    def __post_init__(self) -> None:
        super().__post_init__()
        # Of a fallback only what is a secret elsewhere is one here, so that --check shows the rest.
        fallbacks = {name: self._fallback(name, about) for name, about in self.fallbacks.items()}
        object.__setattr__(self, "fallbacks", SecretMapping(fallbacks, public=_PUBLIC_OF_A_FALLBACK))
        for name, about in self.models.items():
            _check_keys(f"setting models: {name}", about, _OF_A_MODEL)
            for length in ("context_length", "max_output_tokens"):
                if not _is_length(about.get(length, 0)):
                    raise StartError(f"setting models: {name}: {length} must be a whole number from 0 to 2147483647")
            for one in _listed(f"setting models: {name}: capabilities", about.get("capabilities", [])):
                if one not in _CAPABILITIES:
                    raise StartError(f"setting models: {name}: no capability {one!r}{suggest(one, _CAPABILITIES)}")
        for key in _OF_TEXTS:
            _check_texts(f"setting {key}", getattr(self, key))

    def _fallback(self, name: str, about: object) -> dict[str, Any]:
        """`about` with each value read as that of the setting of the same name."""
        place = f"setting fallbacks: {name_for_message(name, about)}"
        found: dict[str, Any] = {}
        for key, value in _check_keys(place, about, _OF_A_FALLBACK).items():
            try:
                if value is None:
                    raise ValueError("has no value")
                found[key] = READERS[types(type(self))[key]](value)
            except ValueError as error:
                raise StartError(f"{place}: {key}: {error}") from None
            if key in _OF_TEXTS:
                _check_texts(f"{place}: {key}", found[key])
        return found


def _check_texts(place: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if value is None:
            # Its name is not told: in `{api-key SECRET}`, the colon forgotten, all of it is one.
            raise StartError(f"{place}: a name has no value; write NAME: VALUE")
        if not isinstance(value, str):
            raise StartError(f"{place}: {name_for_message(key)} must be text; put it in quotes")


def _check_keys(place: str, value: object, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise StartError(f"{place} must be a mapping of {', '.join(known)}")
    for key, item in value.items():
        if key not in known:
            raise StartError(f"{place}: unknown setting {name_for_message(key, item)}{suggest(key, known)}")
    return value


def _is_length(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31) or (
        isinstance(value, str) and value.isascii() and value.isdigit() and int(value) < 2**31
    )


def _listed(place: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise StartError(f"{place} must be a list of {', '.join(_CAPABILITIES)}")
    return value
