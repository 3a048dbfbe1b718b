"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import loop_watchdog

# An example may take long where the machine is busy.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


# What a script starts in the background, the tests perhaps, ignores Ctrl-C, and so would all that they start; some wait
# for one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where plugins keep converted models meanwhile: one folder for all workers, and not that of whoever runs this."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has one of its own below that of the run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache-home"))
        yield folder / "cache-home"


@pytest.fixture
def only_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector store makes a graph of however few vectors."""
    monkeypatch.setattr("plugins.vector_hnsw.engine.flat.MOST", 0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loop_may_stall(why): in this test a plugin's event loop is kept from its work")


def pytest_collection_finish() -> None:
    """Whoever collects garbage, or counts what is left, need not look at a million objects of libraries and tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test in which an event loop of a plugin was kept from its work (tests/loop_watchdog.py)."""
    yield
    # Asked in any case, so that the next test does not hear of it.
    stalls = loop_watchdog.stalls()
    if stalls and item.get_closest_marker("loop_may_stall") is None:
        pytest.fail("\n".join(stalls), pytrace=False)
