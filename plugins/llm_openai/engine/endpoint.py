"""One endpoint over the `openai` package: its URL, credentials and connections. Every failure is a Failure.

The package sends; what comes back is read here (`reading.py`), because its own stream reader fails on an empty `data:`
line and takes a stream that just stops for a success. It does not retry either: it would sleep past a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from shared.errors import StartError
from shared.off_loop import LARGE, in_thread
from shared.units import Secret, SecretUrl, secret_texts_in, spellings

from . import json_text, model_list
from .failures import Failure, Kind, of_status
from .messages import Model
from .opaque import tag_of
from .refusals import Refusals

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LARGEST_ERROR = 2**20  # bytes of a refusal that are read
_LARGEST_LIST = 16 * 2**20  # bytes of a list of models
_MOST_LEARNT, _LEARNT_SECONDS = 1_000, 3600.0  # models whose refusals are remembered, and how long


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to reach one endpoint. `model`, when set, is asked for whatever the request names; `send_back`: reasoning and
    signatures of earlier turns go back to it; `through`: what errors call the proxy in force. Times in seconds."""

    url: str
    api_key: Secret = field(default_factory=Secret)
    organization: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    send_back: bool = True
    proxy: str = ""
    through: str = ""
    ca_bundle: str = ""
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    concurrency: int = 256


class Endpoint:
    """Holds its connections open; `close` it."""

    def __init__(self, settings: Settings, places: asyncio.Semaphore) -> None:
        """`places` are those of everybody who asks this URL. Raises StartError where the settings cannot be used."""
        self.settings = settings
        url = Secret(settings.url).reveal()
        _check_url(url)
        for name, value in {"Authorization": settings.api_key.reveal(), **settings.headers}.items():
            if not _HEADER.fullmatch(name) or not (value.isascii() and (value.isprintable() or not value)):
                # Such as a key read from a file together with the end of its line.
                raise StartError(
                    f"settings api_key and headers: {name} is a name or has a value that no header can have; "
                    "use printable ASCII, without a line break"
                )
        self.name = _bare(url)
        self.tag = tag_of(self.name)
        self._refusals: dict[str, tuple[float, Refusals]] = {}
        self._places = places
        key = settings.api_key.reveal()
        headers_and_query = [*settings.headers.values(), *settings.query.values()]
        texts = [
            key,
            *secret_texts_in(SecretUrl(url)),
            *headers_and_query,
            *(text.rpartition(" ")[2] for text in headers_and_query),
        ]
        forms = {form for text in texts for form in spellings(text) if len(form) >= 6}
        self._secrets = sorted(forms, key=len, reverse=True)
        # The package insists on a key; without one the header it would put it in is taken out again.
        omitted = not key and "authorization" not in {name.lower() for name in settings.headers}
        self._options: Any = {"headers": {"Authorization": openai.Omit()}} if omitted else {}
        try:
            self._client = openai.AsyncOpenAI(
                api_key=key or "none",
                base_url=url,
                max_retries=0,
                default_headers={"Accept-Encoding": "identity", **settings.headers},
                default_query=settings.query,
                http_client=self._http(),
            )
        except httpx2.InvalidURL:  # such as a host's name that none can be
            raise _not_a_url() from None
        # What the package takes from the environment is for OpenAI, and no business of other endpoints.
        self._client.organization = settings.organization or None
        self._client.project = None

    def _http(self) -> httpx2.AsyncClient:
        settings = self.settings
        if settings.ca_bundle and Path(settings.ca_bundle).exists() and not Path(settings.ca_bundle).is_file():
            # OpenSSL would wait for a pipe for ever, and read a device without end.
            raise StartError(f"setting ca_bundle: cannot use {settings.ca_bundle}: it is not a regular file")
        try:
            verify = ssl.create_default_context(cafile=settings.ca_bundle) if settings.ca_bundle else True
        except (OSError, ssl.SSLError) as error:
            raise StartError(f"setting ca_bundle: cannot use {settings.ca_bundle}: {error.strerror or error}") from None
        proxy = Secret(settings.proxy).reveal()
        try:
            return httpx2.AsyncClient(
                verify=verify,
                proxy=proxy if proxy not in ("", "none") else None,
                trust_env=proxy == "",
                timeout=httpx2.Timeout(settings.read_timeout, connect=settings.connect_timeout, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
                # A redirect would carry a key that is in a header of its own to another host.
                follow_redirects=False,
                event_hooks={"response": [_bound_errors]},
            )
        except ImportError as error:  # SOCKS needs another package
            raise StartError(f"setting proxy, or HTTPS_PROXY and its like: {error}") from None
        except (ValueError, httpx2.InvalidURL):  # whose words repeat the URL
            raise StartError(
                "setting proxy, or HTTPS_PROXY and its like: not a URL such as http://127.0.0.1:3128"
            ) from None

    def refusals(self, model: str) -> Refusals:
        """What was learnt of the model lately: endpoints change."""
        now = time.monotonic()
        since, learnt = self._refusals.get(model, (0.0, None))
        if learnt is None or now - since > _LEARNT_SECONDS:
            if len(self._refusals) >= _MOST_LEARNT:
                self._refusals.clear()
            learnt = Refusals()
            self._refusals[model] = now, learnt
        return learnt

    @contextlib.asynccontextmanager
    async def chat(self, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """Sends `body`, which is JSON; the bytes of the reply as they come. The connection is given back, or cut, at
        the end."""
        async with self._places:
            with self._failures():
                # With this `cast_to` the package hands out the reply as it is.
                response: Any = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    options=self._options,
                    stream=True,
                    stream_cls=_NoStream,
                )
            try:
                yield self._bytes(response)
            finally:
                await response.aclose()

    async def models(self) -> list[Model]:
        """What `/models` lists."""
        with self._failures():
            response: Any = await self._client.get(
                "/models", cast_to=httpx2.Response, options=self._options, stream=True, stream_cls=_NoStream
            )
            body = bytearray()
            try:
                async for data in response.aiter_bytes():
                    body += data
                    if len(body) > _LARGEST_LIST:
                        raise Failure(Kind.MALFORMED, f"/models answered with more than {_LARGEST_LIST} bytes")
            finally:
                await response.aclose()
            return await in_thread(_models, bytes(body)) if len(body) > LARGE else _models(bytes(body))

    async def close(self) -> None:
        await self._client.close()

    async def _bytes(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        with self._failures():
            async for data in response.aiter_bytes():
                yield data

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """The package's and its HTTP library's errors as a Failure that names the endpoint and shows no secret."""
        try:
            try:
                yield
            except openai.APIStatusError as error:
                raise of_status(error.status_code, _content(error), headers=error.response.headers) from None
            except (openai.APITimeoutError, httpx2.TimeoutException) as error:
                cause = error.__cause__ or error
                if isinstance(cause, httpx2.ConnectTimeout):
                    raise Failure(
                        Kind.UNREACHABLE, f"no connection within {self.settings.connect_timeout:g} s{self._through}"
                    ) from None
                raise Failure(Kind.TIMEOUT, f"nothing came for {self.settings.read_timeout:g} s") from None
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                if isinstance(cause, httpx2.RemoteProtocolError | httpx2.ReadError):
                    raise Failure(Kind.UNREACHABLE, "the connection was closed without an answer") from None
                if isinstance(cause, httpx2.ConnectError | httpx2.ProxyError):
                    raise Failure(Kind.UNREACHABLE, f"cannot be reached: {cause}{self._through}") from None
                # Not its words: some repeat the request's headers.
                raise Failure(Kind.UNREACHABLE, f"the request failed: {type(cause).__name__}") from None
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.DecodingError):
                raise Failure(Kind.TRUNCATED, "the connection broke in the middle of the reply") from None
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise Failure(Kind.UNREACHABLE, f"the request failed: {type(error).__name__}") from None
        except Failure as failure:
            raise self.named(failure) from None

    @property
    def _through(self) -> str:
        proxy = self.settings.through
        return f"; what is down may be the proxy {proxy}, which it is asked through" if proxy else ""

    def named(self, failure: Failure) -> Failure:
        """`failure` with this endpoint's name and without its secrets, which some endpoints repeat in their errors."""
        failure.tell(self.name, self._secrets)
        return failure


class _NoStream(openai.AsyncStream[Any]):
    """`stream=True` wants a class for a stream, and with `cast_to=Response` makes none."""


async def _bound_errors(response: httpx2.Response) -> None:
    """A refusal is read as a whole by the package: not more of it than is of use."""
    if response.status_code >= 300:
        response.encoding = "utf-8"  # it could name any that Python has, and some take time with the square of the text
        # Nobody asked for compression, and unpacked it could be a thousand times as large.
        packed = response.headers.pop("content-encoding", "identity")
        response.stream = _Bounded(response.stream, packed.strip().lower())


class _Bounded(httpx2.AsyncByteStream):
    """The first `_LARGEST_ERROR` bytes, unpacked."""

    def __init__(self, stream: Any, packed: str) -> None:
        self._stream, self._packed = stream, packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._packed not in ("identity", "gzip", "x-gzip", "deflate", ""):
            yield f"the reason is compressed with {self._packed[:20]}, which was not asked for".encode()
            return
        left = _LARGEST_ERROR
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if self._packed not in ("identity", "") else None
        async for data in self._stream:
            try:
                text = data if unpacker is None else unpacker.decompress(data, left)
            except zlib.error:
                text, unpacker = data, None  # it says so and is not
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


def _models(body: bytes) -> list[Model]:
    try:
        return model_list.parse(json_text.read(body.decode("utf-8-sig")))
    except json_text.TooManyValues as error:
        raise Failure(Kind.MALFORMED, f"/models cannot be read: {error}") from None
    except ValueError:
        raise Failure(Kind.MALFORMED, "/models did not answer with JSON") from None


def _content(error: openai.APIStatusError) -> Any:
    """The body of a refusal, parsed where it is JSON. The package hands out only the inside of `error`."""
    response = error.response
    if response.has_redirect_location:
        try:
            to = _bare(str(response.url.join(response.headers["location"])))
        except (ValueError, httpx2.InvalidURL):
            return "it redirects to what is no URL"
        return f"it redirects to {to}; set endpoint to {to.removesuffix('/chat/completions').removesuffix('/models')}"
    try:
        return json_text.read(response.text)
    except ValueError:
        return response.text


def _check_url(url: str) -> None:
    """Raises StartError where it is not the URL of an endpoint. Nothing of it is told: it may hold a password."""
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        raise _not_a_url() from None
    if wrong:
        raise _not_a_url()
    if parts.query or parts.fragment:
        raise StartError("setting endpoint: the URL has a query; put that into the setting query")


def _not_a_url() -> StartError:
    return StartError("setting endpoint: not a URL such as http://127.0.0.1:8000/v1")


def _bare(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
