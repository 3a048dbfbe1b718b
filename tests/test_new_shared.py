"""What new plugins stand on beside the rest of `shared/`: journal, sealed states, unknown fields, tests' fixture."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shared.errors import InvalidArgument, StartError, StorageFull, Unsupported
from shared.fields import take_only
from shared.journal import Journal
from shared.off_loop import threaded
from shared.sealed import Sealed
from shared.testing import started, wait_until_serving

# ---------------------------------------------------------------- journal


def read(path: Path) -> list[Any]:
    journal = Journal(path)
    try:
        return list(journal.open())
    finally:
        journal.close()


def test_what_was_appended_is_there(tmp_path: Path) -> None:
    """A journal that is opened again gives what was appended, in order, and goes on from there."""
    path = tmp_path / "inner" / "journal.jsonl"
    for change in ({"a": [1, 0.1]}, "é\n", None):
        journal = Journal(path)
        list(journal.open())
        journal.append(change)
        journal.close()
    assert read(path) == [{"a": [1, 0.1]}, "é\n", None]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_line_that_was_cut_off(cut: int, tmp_path: Path) -> None:
    """A kill in the middle of a write costs that write alone, and what is appended afterwards is whole."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'"first"\n' + b'"second"\n'[:cut])
    journal = Journal(path)
    assert list(journal.open()) == ["first"]
    journal.append("third")
    journal.close()
    assert read(path) == ["first", "third"]


@pytest.mark.parametrize("fails", ["half a write", "sync"])
def test_a_disk_that_refuses(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk refuses is an error and no part of the journal, then or later."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert list(journal.open()) == []
    journal.append("first")
    with monkeypatch.context() as patch:
        if fails == "sync":
            patch.setattr(os, "fsync", _no_room)
        else:
            patch.setattr(journal, "_file", HalfWritten(journal._file))
        with pytest.raises(StorageFull, match="nothing was written"):
            journal.append("second")
    journal.append("third")
    journal.close()
    assert read(path) == ["first", "third"]


def _no_room(_: int) -> None:
    raise OSError(28, "No space left on device")


class HalfWritten:
    """A file on a disk that has room for a part of what is written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return int(self._file.write(data[: len(data) // 2]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_write_is_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is on the disk, the folder's entry of the file too, before `append` returns."""
    synced: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    journal = Journal(tmp_path / "journal.jsonl")
    list(journal.open())
    assert synced == [str(tmp_path)]
    journal.append("first")
    journal.close()
    assert synced == [str(tmp_path), str(tmp_path / "journal.jsonl")]


def test_one_journal_has_one_owner(tmp_path: Path) -> None:
    """A second opener is told that the folder is another's, and damages nothing."""
    journal = Journal(tmp_path / "journal.jsonl")
    list(journal.open())
    with pytest.raises(StartError, match="give each a folder of its own"):
        list(Journal(tmp_path / "journal.jsonl").open())
    journal.append("first")
    journal.close()
    assert read(tmp_path / "journal.jsonl") == ["first"]


def test_a_damaged_journal(tmp_path: Path) -> None:
    """A journal that something else has written into stops the start, and is left as it is."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'"first"\nnonsense\n"third"\n')
    with pytest.raises(StartError, match="damaged behind byte 8"):
        read(path)
    assert path.read_bytes() == b'"first"\nnonsense\n"third"\n'


# ---------------------------------------------------------------- sealed states


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(VALUES)
def test_what_is_sealed_comes_back(value: Any) -> None:
    """What was sealed is opened as it was, and by no other key."""
    state = Sealed(b"0123456789abcdef").seal(value)
    assert Sealed(b"0123456789abcdef").open(state) == value
    with pytest.raises(InvalidArgument) as caught:
        Sealed(b"0123456789abcdeg").open(state)
    assert caught.value.reason == "STATE_TAMPERED"


def test_every_bit_counts() -> None:
    """A state with any bit changed, cut short or longer is refused, naming the field."""
    sealed = Sealed(b"0123456789abcdef")
    state = sealed.seal({"question": "why?"})
    changed = [state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :] for at in range(len(state))]
    cut = [state[:length] for length in range(len(state))]
    for other in (*changed, *cut, state + b"x"):
        with pytest.raises(InvalidArgument, match="state is not as this server") as caught:
            sealed.open(other)
        assert caught.value.violations[0][0] == "state"


def test_a_state_of_another_version() -> None:
    """A state that the key made for another version is told apart from one that was changed."""
    sealed = Sealed(b"0123456789abcdef")
    data = b"sealed0\0" + json.dumps("x").encode()
    with pytest.raises(InvalidArgument) as caught:
        sealed.open(data + sealed._mac(data))
    assert caught.value.reason == "STATE_VERSION"


def test_a_short_key() -> None:
    """A key that could be guessed makes no seals."""
    with pytest.raises(ValueError, match="at least 16 characters"):
        Sealed(b"0123456789abcde")


# ---------------------------------------------------------------- fields, threads


def test_fields_that_are_not_known() -> None:
    """A field that is set and not known is refused by name; one that is not set is none."""
    take_only(pb.SearchVectorsRequest(collection="docs", exact=False), "collection")
    with pytest.raises(Unsupported) as caught:
        take_only(pb.SearchVectorsRequest(collection="docs", min_score=0), "collection")
    assert caught.value.violations == (("min_score", "this plugin does not have `min_score`; leave it out"),)


def test_work_in_a_thread() -> None:
    """A threaded method runs beside the event loop, and gives back or raises what it would by itself."""

    class Servicer:
        @threaded
        def Rpc(self, request: str, context: None) -> tuple[str, int]:
            """What it says."""
            if not request:
                raise InvalidArgument("empty")
            return request, threading.get_ident()

    text, thread = asyncio.run(_awaited(Servicer().Rpc("a", None)))
    assert (text, thread != threading.get_ident()) == ("a", True)
    with pytest.raises(InvalidArgument):
        asyncio.run(_awaited(Servicer().Rpc("", None)))
    assert Servicer.Rpc.__doc__ == "What it says."


async def _awaited(what: Any) -> Any:
    return await what


# ---------------------------------------------------------------- a plugin under test


def test_a_plugin_that_is_started(tmp_path: Path) -> None:
    """Within the block the plugin is SERVING and can be called and stopped; afterwards it is gone."""
    with started("host.new.kinds.tool_provider", "--timezone", "Asia/Tokyo", cwd=tmp_path) as plugin:
        wait_until_serving(plugin.channel, seconds=60)
        assert plugin.stop() == 0
    with started("host.new.kinds.tool_provider", cwd=tmp_path) as plugin:
        pass
    assert plugin.process.poll() is not None


def test_a_plugin_that_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a plugin says that does not start is what the test fails with."""
    with (
        pytest.raises(AssertionError, match="did not start: error: command line: unknown option --no-such"),
        started("host.new.kinds.tool_provider", "--no-such", cwd=tmp_path),
    ):
        pytest.fail("it started")
    assert "unknown option --no-such" in capsys.readouterr().err


def test_waiting_has_an_end() -> None:
    """Where no plugin comes, waiting for it ends in an error."""
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError):
        wait_until_serving(channel, seconds=0.2)
