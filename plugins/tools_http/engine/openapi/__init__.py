"""OpenAPI documents as sets of tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import CallerError

from ..credentials import CredentialSource, origin_of
from ..exchange import Request
from ..operation import Sender
from .document import MOST_BYTES, BadDocument, parse
from .importer import Allowed, Imported, Importer, start_error
from .report import ImportReport, OperationReport
from .settings import DocumentSettings, read_settings

__all__ = ["ImportReport", "Imported", "OperationReport", "import_document", "import_documents"]

_LONGEST_FETCH = 60.0  # seconds for one document; the client has a bound of its own


async def import_documents(
    settings: Mapping[str, Any],
    sender: Sender,
    credentials: Mapping[str, CredentialSource],
    *,
    max_operations: int,
    allowed: Allowed,
) -> list[Imported]:
    """The tools of each document of the setting `openapi`, in its order; documents are fetched side by side.

    `credentials` are those of the setting of that name. `allowed` says why the policy refuses a method on a URL, empty
    where it does not. Raises StartError, which names the document.
    """

    documents = read_settings(settings)
    texts = await asyncio.gather(*(_data(about, sender, credentials) for about in documents))
    return [
        await asyncio.to_thread(import_document, data, base, about, sender, credentials, max_operations, allowed)
        for about, (data, base) in zip(documents, texts, strict=True)
    ]


def import_document(
    data: bytes,
    base: str,
    about: DocumentSettings,
    sender: Sender,
    credentials: Mapping[str, CredentialSource],
    max_operations: int,
    allowed: Allowed,
) -> Imported:
    """The tools of the document that is `data`, from the URL `base`, empty for a file. Raises StartError."""
    try:
        document = parse(data)
    except BadDocument as error:
        raise start_error(about, str(error)) from None
    return Importer(document, about, base, sender, credentials, allowed).imported(max_operations)


async def _data(
    about: DocumentSettings, sender: Sender, credentials: Mapping[str, CredentialSource]
) -> tuple[bytes, str]:
    """The document, and the URL it came from, empty for a file."""
    if about.is_url:
        return await _fetched(about, sender, credentials)
    try:
        return await asyncio.to_thread(_read_file, Path(about.document)), ""
    except OSError as error:
        raise start_error(about, f"cannot be read: {error.strerror or 'it is no file'}") from None


def _read_file(path: Path) -> bytes:
    if not path.is_file():  # such as a pipe that never ends
        raise FileNotFoundError(2, "there is no such file")
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


async def _fetched(
    about: DocumentSettings, sender: Sender, credentials: Mapping[str, CredentialSource]
) -> tuple[bytes, str]:
    deadline = time.monotonic() + _LONGEST_FETCH
    try:
        source = credentials.get(origin_of(about.document))
        request = Request(
            method="GET",
            url=about.document,
            headers=[("Accept", "application/json, application/yaml;q=0.9, */*;q=0.5")],
            credential=await source.get(deadline=deadline) if source else None,
            max_bytes=MOST_BYTES,
        )
        response = await sender.client.send(request, deadline=deadline)
    except CallerError as error:
        raise start_error(about, f"cannot be fetched: {error.message}") from None
    if response.status != 200:
        raise start_error(about, f"cannot be fetched: HTTP {response.status}")
    return response.body, response.url
