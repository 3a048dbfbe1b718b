"""Hot reload over real processes: what is edited starts anew, alone, and calls made through the host notice nothing."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub

from host import child, log_files, watch
from host.config import HostConfig, Plugin, load
from host.gate import Gate, PluginAwayError, calling
from host.sources import Sources, sources_of
from host.supervisor import Status, Supervisor, supervise
from tests.host_manager import PLUGIN, SECONDS, Host, serving, until, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="over processes as Linux has them")


class Load:
    """Callers without a pause, each on a connection that lasts, and what they got."""

    def __init__(self, host: Host, name: str, prompt: str) -> None:
        self.answers: list[str] = []
        self.failures: list[Exception] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(host, name, prompt)) for _ in range(3)]

    def _call(self, host: Host, name: str, prompt: str) -> None:
        with host.channel(name) as opened:
            stub = LLMProviderStub(opened)
            for number in itertools.count():
                if self._over.is_set():
                    return
                try:
                    if number % 2:
                        self.answers.append(
                            stub.GenerateText(pb.GenerateTextRequest(prompt=prompt), timeout=SECONDS).text
                        )
                    else:
                        *_, last = stub.StreamText(pb.StreamTextRequest(prompt="sleep 0.01"), timeout=SECONDS)
                        assert last.done
                except Exception as error:
                    self.failures.append(error)
                    return

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) > 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def untouched(host: Host, *names: str) -> Iterator[None]:
    """Within, these plugins go on in the same processes."""
    before = {name: host.pid(name) for name in names}
    yield
    assert {name: host.pid(name) for name in names} == before


@pytest.mark.slow
@pytest.mark.parametrize("abrupt", [False, True], ids=["drains", "does not drain"])
def test_a_configuration_is_edited_under_load(tmp_path: Path, abrupt: bool) -> None:
    """An edited block starts just its plugin anew; no call made through the host fails, each gets the old or the new
    answer; also where the plugin itself ends at once when told to."""

    def edit(greeting: str) -> Path:
        return write(tmp_path, {"edited": {"config": {"greeting": greeting, "abrupt": abrupt}}, "other": {}})

    times = 3
    with serving(edit("0")) as host, untouched(host, "other"), Load(host, "edited", "greet") as load:
        for number in range(1, times + 1):
            pid = host.pid("edited")
            edit(str(number))
            until(partial(lambda wanted: load.failures or load.answers[-1] == wanted, str(number)))
            assert load.failures or host.pid("edited") != pid
        until(lambda: load.failures or len(load.answers) > 50)
    assert not load.failures
    assert [answer for answer, _ in itertools.groupby(sorted(load.answers))] == [str(n) for n in range(times + 1)]


@pytest.mark.slow
def test_a_source_is_edited_under_load(tmp_path: Path) -> None:
    """An edited source file starts just its plugin anew, from the new source; no call made through the host fails."""
    source = tmp_path / "mine" / "plugin.py"
    source.parent.mkdir()
    shutil.copy(PLUGIN, source)
    file = write(tmp_path, {"edited": {"path": "./mine/plugin.py"}, "other": {}})
    with serving(file) as host, untouched(host, "other"), Load(host, "edited", "version") as load:
        for word in ("two", "three"):
            edit(source, 'VERSION = "', f'VERSION = "{word} ')
            until(partial(lambda wanted: load.failures or load.answers[-1].startswith(wanted), word))
        assert not load.failures
        with untouched(host, "edited"):
            source.touch()
            until(lambda: len(load.answers) > 200 or load.failures)
    assert not load.failures


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    other = file.with_suffix(".new")
    other.write_text(text.replace(old, new))
    other.replace(file)


@pytest.mark.slow
def test_a_broken_edit_waits_for_the_next(tmp_path: Path) -> None:
    """YAML and source that cannot be read, and an empty YAML, change nothing; a source that ends at its start is tried
    once, calls wait for the next edit, and with that all is well."""
    source = tmp_path / "mine" / "plugin.py"
    source.parent.mkdir()
    shutil.copy(PLUGIN, source)
    file = write(tmp_path, {"edited": {"path": "./mine/plugin.py"}})
    with serving(file) as host:
        with untouched(host, "edited"):
            whole = file.read_text()
            edit(file, whole, whole + "\nplugins: [")
            until(lambda: "event=config_broken" in host.stderr)
            edit(file, "\nplugins: [", "\n      pth: x")
            until(lambda: "unknown key 'pth'" in host.stderr)
            file.write_text("")  # as an editor leaves it for a moment that does not write another file beside it
            until(lambda: "is empty" in host.stderr)
            write(tmp_path, {"edited": {"path": "./mine/plugin.py"}})
            edit(source, 'VERSION = "one"', "VERSION = (")
            until(lambda: "event=source_broken" in host.stderr)
            assert "plugin.py:" in host.stderr
            assert host.ask("edited", "version") == "one"
        edit(source, "VERSION = (", 'VERSION = "two" + 2')
        until(lambda: host.plugin("edited")["status"] == "broken")
        assert host.plugin("edited")["cause"]
        until(lambda: "can only concatenate str" in host.stderr)
        answers: list[str] = []
        caller = threading.Thread(target=lambda: answers.append(host.ask("edited", "version")))
        caller.start()
        until(lambda: "event=plugin_broken" in host.stderr)
        time.sleep(4)  # a loop would have started it again, with the delays of one that ended
        assert host.stderr.count("event=plugin_broken") == 1
        assert host.plugin("edited")["restarts"] == 0
        assert not answers
        edit(source, '"two" + 2', '"two"')
        caller.join(SECONDS)
        assert answers == ["two"]


@pytest.mark.slow
def test_plugins_come_and_go_with_the_configuration(tmp_path: Path) -> None:
    """A block that is added is started, one that is removed is stopped, the rest goes on; a comment changes nothing."""
    file = write(tmp_path, {"one": {}, "two": {}})
    with serving(file) as host, untouched(host, "one"):
        two = host.pid("two")
        write(tmp_path, {"one": {}, "three": {"config": {"greeting": "new here"}}})
        assert until(lambda: host.plugin("three").get("status") == "SERVING")
        assert host.ask("three", "greet") == "new here"
        until(lambda: not Path(f"/proc/{two}").exists())
        assert not host.plugin("two")
        three = host.pid("three")
        whole = file.read_text()
        edit(file, whole, whole + "# a comment\n")
        until(lambda: host.stderr.count("event=config_read") == 2)
        assert host.pid("three") == three
        # Away and back again while the first is still ending.
        one_call = threading.Thread(target=lambda: host.ask("three", "sleep 1"))
        one_call.start()
        until(lambda: "event=accepted" in "".join(log_files.read(host.state, "three", 1000, lambda: False)))
        write(tmp_path, {"one": {}})
        until(lambda: not host.plugin("three"))
        write(tmp_path, {"one": {}, "three": {"config": {"greeting": "again"}}})
        until(lambda: host.plugin("three").get("status") == "SERVING")
        assert host.ask("three", "greet") == "again"
        one_call.join()


@pytest.mark.slow
def test_a_disk_that_tells_of_no_changes_is_looked_at(tmp_path: Path) -> None:
    """Where watchfiles is told to poll, an edit is seen all the same."""
    file = write(tmp_path, {"edited": {"config": {"greeting": "old"}}})
    with serving(file, environment={"WATCHFILES_FORCE_POLLING": "1"}) as host:
        write(tmp_path, {"edited": {"config": {"greeting": "new"}}})
        until(lambda: host.ask("edited", "greet") == "new")


@pytest.mark.slow
def test_manifests_are_found_where_enabled(tmp_path: Path) -> None:
    """An executable with a manifest is started where discovery is enabled, also one that comes later; else none is."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    manifest = "plugin: {name: NAME, version: 1.0.0, type: llm_provider, protocol: grpc}"
    script = f"#!/bin/sh\nexec {sys.executable} {PLUGIN} --port 0\n"

    def add(name: str) -> None:
        executable = folder / f"{name}-plugin"
        executable.write_text(script)
        executable.chmod(0o755)
        executable.with_name(f"{name}-plugin.plugin.yaml").write_text(manifest.replace("NAME", name))

    add("found")
    file = write(tmp_path, {"named": {}})
    assert set(load(file).plugins) == {"named"}
    write(tmp_path, {"named": {}}, plugins={"plugin_discovery": {"enabled": True}})
    assert set(load(file).plugins) == {"named", "found"}
    with serving(file) as host, untouched(host, "named", "found"):
        assert host.ask("found", "greet") == "hello"
        add("later")
        until(lambda: host.plugin("later").get("status") == "SERVING")
        assert host.ask("later", "greet") == "hello"


# ---------------------------------------------------------------- the parts


def test_calls_wait_at_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a gate is closed calls wait, for a time; the host waits for those under way, and new ones do not hold it
    up."""
    with calling(tmp_path, "x"):  # no host has ever run
        pass
    closed = Gate(tmp_path, "x")
    with pytest.raises(PluginAwayError, match=r"plugin x was not back within 0\.2 s"), calling(tmp_path, "x", 0.2):
        pass
    closed.open()
    passed: list[str] = []

    def call(name: str) -> None:
        with calling(tmp_path, "x"):
            passed.append(name)

    with calling(tmp_path, "x"):
        closed.close()
        late = threading.Thread(target=call, args=("late",))
        late.start()
        assert not closed.wait_for_calls(0.3, lambda: False)
        assert not passed
        assert not closed.wait_for_calls(60, lambda: True)
    assert closed.wait_for_calls(60, lambda: False)
    assert not passed
    closed.open()
    late.join(60)
    assert passed == ["late"]
    closed.close()
    closed.end()  # as when the host is killed: nothing is held up by one that is gone
    call("after")
    assert passed == ["late", "after"]


@pytest.mark.slow
def test_a_port_that_was_taken_between_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that is started anew listens where it did before, or, where somebody else has that port by then, at
    another one."""
    config = load(write(tmp_path, {"one": {}}))
    others: list[socket.socket] = []

    def is_anew(supervisor: Supervisor, before: Status) -> bool:
        now = supervisor.statuses()[0]
        return now.status == "SERVING" and now.pid != before.pid

    real = child.port_arguments

    def taken_meanwhile(plugin: Plugin, address: str) -> list[str]:
        if address and not others:
            others.append(socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))))
        return real(plugin, address)

    with supervise(config, config.plugins.values(), state=tmp_path / ".hector") as supervisor:
        first = supervisor.addresses()["one"]
        monkeypatch.setattr(child, "port_arguments", taken_meanwhile)
        for is_other in (True, False):
            before = supervisor.statuses()[0]
            supervisor.restart("one")
            until(partial(is_anew, supervisor, before))
            after = supervisor.statuses()[0]
            assert (after.address != before.address) == is_other
            assert after.restarts == 0
        assert others[0].getsockname()[1] == int(first.rpartition(":")[2])
        others[0].close()


def test_a_file_that_is_being_written_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A YAML that is other once it was read than just before is not believed; what it is in the end is."""
    file = write(tmp_path, {"one": {}})
    reloaded: list[set[str]] = []

    class Reloaded(Supervisor):
        def reload(self, config: HostConfig) -> bool:
            reloaded.append(set(config.plugins))
            return True

    watcher = watch._Watcher(Reloaded(load(file), ()), load(file), {})

    def load_meanwhile(path: Path) -> HostConfig:
        monkeypatch.setattr(watch, "load", load)
        path.write_text("")
        config = load(path)
        write(tmp_path, {"two": {}})
        return config

    monkeypatch.setattr(watch, "load", load_meanwhile)
    watcher.look()
    assert reloaded == []
    watcher.look()
    watcher.look()
    assert reloaded == [{"two"}]


def test_sources(tmp_path: Path) -> None:
    """A module's sources are its package and the `shared` beside it; a script's, those of its kind beside it; other
    contents are seen, a touch is not."""
    package = tmp_path / "mine" / "sub"
    package.mkdir(parents=True)
    for file in (package / "__main__.py", package / "deep" / "part.py", tmp_path / "shared" / "help.py"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("x = 1\n")
    (tmp_path / "mine" / "__init__.py").touch()
    config = load(write(tmp_path, {"module": {"path": "mine.sub"}, "script": {}}))
    module, script = (sources_of(config.plugins[name]) for name in ("module", "script"))
    assert set(module.all()) == {package / "__main__.py", package / "deep" / "part.py", tmp_path / "shared" / "help.py"}
    assert PLUGIN in set(script.all())
    before = module.fingerprint()
    os.utime(package / "__main__.py", (1, 1))
    assert module.fingerprint() == before
    (package / "new.py").write_text("y = 2\n")
    after = module.fingerprint()
    assert after != before
    (package / "new.py").rename(package / "newer.py")
    assert module.fingerprint() not in (before, after)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [("x = 1\n", ""), ("x = (\n", "a.py:1: '(' was never closed"), ("x = '\0'\n", "a.py"), ("x = 1\n\tif", "a.py:2")],
)
def test_what_does_not_compile(tmp_path: Path, text: str, mistake: str) -> None:
    """Source that does not compile is named with its line."""
    (tmp_path / "a.py").write_text(text)
    assert mistake in Sources(trees=(tmp_path,)).mistake()
    assert bool(mistake) == bool(Sources(trees=(tmp_path,)).mistake())


def test_whose_manifests_are_refused(tmp_path: Path) -> None:
    """What another user could have put there is not run, nor what is no executable; two of one name are a mistake."""
    from host.config import ConfigError

    manifest = "plugin: {name: NAME, version: 1.0.0, type: llm_provider, protocol: grpc}"
    for name in ("loose", "plain", "twin", "twin2"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod({"loose": 0o777, "plain": 0o644}.get(name, 0o755))
        text = manifest.replace("NAME", name.rstrip("2"))
        (tmp_path / f"{name}.plugin.yaml").write_text(text)
    (tmp_path / "lonely.plugin.yaml").write_text(manifest)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "linked").write_text("#!/bin/sh\n")
    (tmp_path / "open" / "linked").chmod(0o755)
    (tmp_path / "linked").symlink_to(tmp_path / "open" / "linked")
    (tmp_path / "linked.plugin.yaml").write_text(manifest.replace("NAME", "linked"))
    file = write(tmp_path, {}, plugins={"plugin_discovery": {"enabled": True, "paths": ["."]}})
    with pytest.raises(ConfigError) as caught:
        load(file)
    message = str(caught.value)
    assert "loose can be changed by every user of this machine, and is not run; chmod o-w it" in message
    assert f"{tmp_path}/open can be changed by every user of this machine" in message
    assert "plain is not executable" in message
    assert "has the name twin too" in message
    assert "there is no lonely beside it" in message
