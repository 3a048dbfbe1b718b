"""What the page must not show: settings that are secrets by their name, masked; their values, wherever they turn up."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from host.config import HostConfig, Plugin
from shared.client import Address
from shared.config import expand
from shared.errors import StartError
from shared.units import SecretUrl

MASK = "***"
_SHORTEST = 8  # characters of a value that is looked for; a shorter one stands in too many words
_SECRET = re.compile(
    r"(?:^|_)(?:api_?keys?|keys?|tokens?|secrets?|passw(?:or)?ds?|passphrases?|pass|pwd|credentials?|auth|authorization|"
    r"headers?|cookies?|bearer)(?:$|_)"
)
# Of these names, what does not hold a secret but says where one is, or how many there are.
_NO_SECRET = re.compile(r"(?:^max_|_file$|_path$|_sock$|^tls_|_limit$|^tokens_|_tokens$)")
_FOLDERS = ("PWD", "OLDPWD")  # a shell's, no passwords
_VARIABLE = re.compile(r"\$\{[A-Za-z_]\w*(?::-)?\}")


def is_secret(name: str) -> bool:
    """
    >>> [name for name in ("api_key", "X-API-Key", "OPENAI_API_KEY", "max_tokens", "keyboard") if is_secret(name)]
    ['api_key', 'X-API-Key', 'OPENAI_API_KEY']
    """
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])|\W", "_", name).lower()
    return bool(_SECRET.search(plain)) and not _NO_SECRET.search(plain)


def masked(value: Any, *, below_secret: bool = False) -> Any:
    """`value` of the YAML, fit to be shown: a reference to a variable stays, a secret itself does not."""
    if isinstance(value, Mapping):
        return {str(key): masked(item, below_secret=below_secret or is_secret(str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, below_secret=below_secret) for item in value]
    if isinstance(value, str):
        if below_secret:
            return value if not value or _VARIABLE.fullmatch(value) else MASK
        return str(SecretUrl(value)) if "://" in value else value
    return value if value is None or isinstance(value, bool) or not below_secret else MASK


def hiding(config: HostConfig, environ: Mapping[str, str] = os.environ) -> Callable[[str], str]:
    """Takes the secrets that `config` and the environment hold out of a text, which may be JSON."""
    values = {value for name, value in environ.items() if is_secret(name) and name not in _FOLDERS}
    for plugin in config.plugins.values():
        values |= set(_of(plugin, environ))
    spellings = {form for value in values if len(value) >= _SHORTEST for form in (value, *_in_json(value))}
    ordered = sorted(spellings, key=len, reverse=True)

    def hide(text: str) -> str:
        for value in ordered:
            if value in text:
                text = text.replace(value, MASK)
        return text

    return hide


def without_secrets(value: Any, hide: Callable[[str], str]) -> Any:
    """`value`, of JSON's types, with `hide` on each text in it."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(str(key)): without_secrets(item, hide) for key, item in value.items()}
    return [without_secrets(item, hide) for item in value] if isinstance(value, list | tuple) else value


def _in_json(value: str) -> Iterator[str]:
    for only_ascii in (True, False):
        yield json.dumps(value, ensure_ascii=only_ascii)[1:-1]


def _of(plugin: Plugin, environ: Mapping[str, str]) -> Iterator[str]:
    for address in (plugin.address, plugin.listens_at):
        if isinstance(address, Address):
            yield address.token.reveal()
    yield from _texts(dict(plugin.settings), False, environ)
    yield from _texts(dict(plugin.env), False, environ)


def _texts(value: Any, below_secret: bool, environ: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, below_secret or is_secret(str(key)), environ)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, below_secret, environ)
    elif isinstance(value, str):
        try:
            text = str(expand(value, environ))
        except StartError:  # a variable is not set
            return
        if below_secret:
            yield text
            yield from (word for word in text.split() if len(word) >= _SHORTEST)  # "Bearer" and what follows
        elif "://" in text:
            user = text.partition("://")[2].rpartition("@")[0]
            yield user
            yield user.partition(":")[2]
