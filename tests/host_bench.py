"""A folder of documents, a host's configuration and the plugins that it names, for tests of `index` and `search`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host import commands
from host.config import load
from tests.host_fakes import Fakes, config_for, fakes, write_config
from tests.vector_wire import Database, serving


class Bench:
    """A folder of documents, a configuration, and running fakes."""

    def __init__(self, fake: Fakes, folder: Path) -> None:
        self.fake = fake
        self.docs = folder / "docs"
        self.docs.mkdir()
        self.folder = folder
        self.configure()

    def configure(self, **database: Any) -> None:
        self.config = write_config(self.folder, config_for(self.fake.address, **database))

    def write(self, path: str, *paragraphs: str) -> None:
        """A file whose paragraphs are a chunk each."""
        file = self.docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"# {n}\n\n{text}\n\n" for n, text in enumerate(paragraphs)))

    def index(self, **options: Any) -> list[str]:
        """Indexes; the texts that were embedded."""
        before = len(self.fake.embedder.texts)
        config = load(self.config)
        assert commands.index(config, self.docs, config.database(), **options) == 0
        return self.fake.embedder.texts[before:]

    def search(self, question: str, **options: Any) -> int:
        config = load(self.config)
        given: dict[str, Any] = {"limit": 5, "database": config.database(), "as_json": False} | options
        return commands.search(config, question, **given)


@contextmanager
def beside_a_store(folder: Path) -> Iterator[tuple[Bench, Database]]:
    """The fake embedder beside a real vector store."""
    with fakes() as fake, serving(folder / "data") as database:
        bench = Bench(fake, folder)
        document = config_for(fake.address)
        document["plugins"]["database_providers"]["vectors"]["address"] = database.server.address
        bench.config = write_config(folder, document)
        yield bench, database


def texts(database: Database) -> dict[str, str]:
    """By the ids without their folder's hash."""
    items, _ = database.engine.page("docs", size=1000)
    return {item.id.partition("/")[2]: json.loads(item.metadata)["text"] for item in items}
