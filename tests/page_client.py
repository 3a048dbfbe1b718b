"""The page's server with fakes behind it, and a client that says exactly what it sends.

with page(file) as client:
    assert client.get("overview").status == 200
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.config import load
from host.supervisor import Status
from host.ui import server

SECONDS = 120.0  # the longest wait for anything; a busy machine is slow


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


class Client:
    def __init__(self, address: str) -> None:
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]+)", address)
        assert match, address
        self.address = address
        self.port, self.token = int(match[1]), match[2]

    def get(self, path: str) -> Answer:
        return self.request("GET", f"/api/{path}", self.credentials)

    def post(self, path: str, body: Any) -> Answer:
        return self.request("POST", f"/api/{path}", self.credentials | _JSON, json.dumps(body).encode())

    @property
    def credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        with self._asked(method, path, headers, body) as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read().decode())

    @contextmanager
    def stream(self, path: str, body: Any = None) -> Iterator[Iterator[dict[str, Any]]]:
        """The objects of an answer as they come; afterwards the connection is closed, as by a page that goes."""
        headers = self.credentials | (_JSON if body is not None else {})
        content = json.dumps(body).encode() if body is not None else None
        with self._asked("GET" if body is None else "POST", f"/api/{path}", headers, content) as response:
            assert response.status == 200
            yield map(json.loads, response)

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, {"Connection": "close", **headers})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()


_JSON = {"Content-Type": "application/json"}


@contextmanager
def page(file: Path, statuses: Callable[[], Sequence[Status]] = lambda: ()) -> Iterator[Client]:
    """Of the YAML in `file`, whose plugins run."""
    with server.serving(load(file), statuses, server.listen(0)) as address:
        yield Client(address)
