"""The misbehaving endpoint of the tests as a process, one that does not remember what it was asked.

python -m tests.fuzz.endpoint    prints its base URL
"""

from __future__ import annotations

import threading
from typing import Any

from tests.llm_endpoint import Endpoint


class _Forgetful(list[Any]):
    """A list of requests that stays empty: of an hour of them there would be too many."""

    def append(self, _: Any) -> None:
        pass


def main() -> None:
    with Endpoint() as endpoint:
        endpoint.seen = _Forgetful()
        print(endpoint.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
