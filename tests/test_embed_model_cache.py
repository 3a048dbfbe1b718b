"""embed_st's converted models: made once, whole or not at all, checked, and made anew when anything changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from plugins.embed_st.engine import conversions, convert
from plugins.embed_st.engine.backends import UnfitError
from plugins.embed_st.engine.convert import Task
from plugins.embed_st.engine.model import open_model
from plugins.embed_st.engine.models import Source, find
from shared.errors import StartError
from tests.embed_models import tiny
from tests.servers import start_plugin, wait_until

ROOT = Path(__file__).resolve().parent.parent


class Converter:
    """In place of the process that converts; `before` runs first, in the thread that asked."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.before: Callable[[Task], None] = lambda _: None

    def __call__(self, task: Task) -> None:
        self.tasks.append(task)
        self.before(task)
        convert.convert(task)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    converter = Converter()
    monkeypatch.setattr(conversions, "_in_child", converter)
    return converter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("cache"))


def opened(model: Path, cache: Path, backend: str = "onnx") -> str:
    return open_model(str(model), backend=backend, precision="fp32", cache_dir=str(cache), device="cpu").backend.name


def kept(cache: Path) -> list[Path]:
    return sorted((cache / "hector-plugins" / "embed_st").iterdir())


def test_once(model: Path, tmp_path: Path, converter: Converter) -> None:
    """The second start takes what the first has made; each form is made on its own."""
    for _ in range(2):
        assert opened(model, tmp_path) == "onnx"
    assert len(converter.tasks) == 1
    opened(model, tmp_path, "openvino")
    assert [task.kind for task in converter.tasks] == ["onnx", "openvino"]
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("folder", ["models", "~/models"])
def test_a_folder_by_a_short_name(
    folder: str, model: Path, tmp_path: Path, converter: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder, or one below ~, is the same for the model that is found, converted and kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[str] = []

    def recorded(name: str, cache: str) -> Source:
        asked.append(cache)
        return find(name, "")

    monkeypatch.setattr("plugins.embed_st.engine.model.find", recorded)
    # The process that converts runs elsewhere.
    converter.before = lambda task: os.chdir("/")
    assert opened(model, Path(folder)) == "onnx"
    assert asked == [str(tmp_path / "models")]
    assert len(kept(tmp_path / "models")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["facts.json", "tokenizer.json", "reference.npy", "model.onnx", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged(
    model: Path, tmp_path: Path, converter: Converter, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    """A damaged file in the cache is noticed, whichever it is, and the model is converted anew."""
    opened(model, tmp_path)
    (folder,) = kept(tmp_path)
    content = (folder / name).read_bytes()
    half = len(content) // 2
    changed = {"flip": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :], "cut": content[:half]}
    if damage == "remove":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(changed[damage])
    assert opened(model, tmp_path) == "onnx"
    assert "event=cache_damaged" in caplog.text
    assert len(converter.tasks) == 2
    assert opened(model, tmp_path) == "onnx"
    assert len(converter.tasks) == 2
    assert kept(tmp_path) == [folder]


def test_broken_off(model: Path, tmp_path: Path, converter: Converter) -> None:
    """A conversion that fails half way leaves nothing that counts, and the next start makes it whole."""

    def write_and_fail(task: Task) -> None:
        (Path(task.target) / "model.onnx").write_bytes(b"half")
        raise UnfitError("no space left")

    converter.before = write_and_fail
    with pytest.raises(StartError, match="no space left"):
        opened(model, tmp_path)
    assert kept(tmp_path) == []
    converter.before = lambda _: None
    assert opened(model, tmp_path) == "onnx"


def test_two_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that convert at once both serve, and one whole conversion stays."""
    both = threading.Barrier(2)
    names: list[str] = []
    # Tracing is not for two threads of one process; the renaming is what is tried here.
    one_at_a_time = threading.Lock()

    def convert_alone(task: Task) -> None:
        both.wait(120)
        with one_at_a_time:
            convert.convert(task)

    monkeypatch.setattr(conversions, "_in_child", convert_alone)
    threads = [threading.Thread(target=lambda: names.append(opened(model, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert names == ["onnx", "onnx"]
    assert len(kept(tmp_path)) == 1


def test_what_was_killed_is_swept(model: Path, tmp_path: Path, converter: Converter) -> None:
    """What a killed conversion left is removed a day later, not while it may still be written, and nothing else."""
    opened(model, tmp_path)
    root = tmp_path / "hector-plugins" / "embed_st"
    old, new, other = ".partial-" + "0" * 32, ".partial-" + "1" * 32, ".partial-figures"
    for name, hours in ((old, 30), (new, 1), (other, 30)):
        (root / name).mkdir()
        (root / name / "file").touch()
        past = (root / name).stat().st_mtime - hours * 3600
        os.utime(root / name, (past, past))
    opened(model, tmp_path, "openvino")
    assert {path.name for path in kept(tmp_path) if path.name.startswith(".")} == {new, other}


def test_a_folder_that_cannot_be_written(
    model: Path, tmp_path: Path, converter: Converter, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the cache cannot be written, the model is converted all the same, and the log says so."""
    (tmp_path / "file").touch()
    for backend in ("onnx", "openvino"):
        found = open_model(str(model), backend=backend, precision="fp32", cache_dir=str(tmp_path / "file"))
        assert found.backend.run(found.tokenizer.encode(["a text"])).shape == (1, 32)
        assert not Path(converter.tasks[-1].target).exists()
    assert "event=cache_unwritable" in caplog.text


def test_the_key(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another weight, tokenizer, setting, form, library version or format is another conversion; a README is not."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)

    def key(kind: convert.Kind = "onnx") -> str:
        return conversions.key(Source("x", copy), kind)

    keys = {key(), key("openvino"), key("onnx-int8")}
    assert conversions.key(Source("y", model), "onnx") in keys
    for name in ("model.safetensors", "tokenizer.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        with (copy / name).open("ab") as file:
            file.write(b" ")
        keys.add(key())
    assert len(keys) == 7
    (copy / "README.md").write_text("other words")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert key() in keys
    monkeypatch.setattr(conversions, "_version", lambda library: "1.2.3")
    keys.add(key())
    monkeypatch.setattr(conversions, "FORMAT", conversions.FORMAT + 1)
    keys.add(key())
    assert len(keys) == 9


def test_weights_in_several_files(tmp_path: Path) -> None:
    """The checksum of weights in several files is none of theirs and changes with each; .bin twins do not count."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    alone = Source("x", tmp_path).sha256
    (tmp_path / "pytorch_model.bin").write_bytes(b"the same in another format")
    assert Source("x", tmp_path).sha256 == alone
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"two")
    both = Source("x", tmp_path).sha256
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"three")
    assert len({alone, both, Source("x", tmp_path).sha256}) == 3


def test_not_a_model(tmp_path: Path) -> None:
    """A folder that is no model's is refused before all of it is read."""
    with pytest.raises(StartError, match=r"has neither modules\.json nor config\.json"):
        find(str(tmp_path), "")


def test_nobody_else_may_read(model: Path, tmp_path: Path, converter: Converter) -> None:
    """New folders and files are for this user only, whatever the umask; folders that were there stay as they are."""
    tmp_path.chmod(0o755)
    before = os.umask(0o000)
    try:
        opened(model, tmp_path / "new")
    finally:
        os.umask(before)
    (folder,) = kept(tmp_path / "new")
    assert {
        path.stat().st_mode & 0o777 for path in (folder, *folder.parents) if path.is_relative_to(tmp_path / "new")
    } == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_is_not_ours_stays(
    model: Path, tmp_path: Path, converter: Converter, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a damaged conversion only our files are removed: what somebody has put beside them is kept, and named."""
    opened(model, tmp_path)
    (folder,) = kept(tmp_path)
    (folder / "facts.json").write_text("damaged")
    (folder / "figures.csv").write_text("precious")
    opened(model, tmp_path)
    assert (folder / "facts.json").exists()
    (left,) = (path for path in kept(tmp_path) if path != folder)
    assert [path.name for path in left.iterdir()] == ["figures.csv"]
    assert (left / "figures.csv").read_text() == "precious"
    assert f"event=cache_left folder={left}" in caplog.text


@pytest.mark.parametrize("names", [["model.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]])
def test_only_what_is_needed_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    """Of a model that only the hub has the weights are fetched once, not in each of the formats that it has there."""
    (tmp_path / "config.json").write_text("{}")
    ignored: list[str] = []

    def download(model: str, *, cache_dir: str | None, ignore_patterns: list[str]) -> str:
        assert (model, cache_dir) == ("owner/other", str(tmp_path))
        ignored.extend(ignore_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: object())
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_: names)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find("owner/other", str(tmp_path)) == Source("owner/other", tmp_path)
    wanted = [*names, "2_Dense/pytorch_model.bin", "onnx/model.onnx", "openvino/openvino_model.bin", "tokenizer.json"]
    assert list(filter_repo_objects(wanted, ignore_patterns=ignored)) == [
        names[0],
        "2_Dense/pytorch_model.bin",
        "tokenizer.json",
    ]


# ---------------------------------------------------------------- with a process of its own


@pytest.mark.slow
def test_light_start(model: Path, tmp_path: Path, converter: Converter) -> None:
    """With a converted model in the cache a start imports neither torch nor transformers nor sentence-transformers."""
    opened(model, tmp_path)
    opened(model, tmp_path, "openvino")
    script = (
        "import json, sys\n"
        "from plugins.embed_st.engine.model import open_model\n"
        "facts, tokenizer, backend = open_model(*sys.argv[1:2], backend=sys.argv[2], precision='fp32',\n"
        "                                       cache_dir=sys.argv[3])\n"
        "assert backend.run(tokenizer.encode(['a text'])).shape == (1, 32)\n"
        "print(json.dumps([backend.name, *sys.modules]))\n"
    )
    for backend in ("onnx", "openvino"):
        command = [sys.executable, "-c", script, str(model), backend, str(tmp_path)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240).stdout
        name, *modules = json.loads(said)
        assert name == backend
        heavy = {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "onnx"}
        assert not heavy & {module.partition(".")[0] for module in modules}
    assert len(converter.tasks) == 2


@pytest.mark.slow
def test_processes_of_their_own(model: Path, tmp_path: Path) -> None:
    """Two first starts at once convert in other processes: those that serve never hold torch, and one result stays."""
    script = (
        "import sys; from plugins.embed_st.engine.model import open_model\n"
        "opened = open_model(sys.argv[1], precision='fp32', cache_dir=sys.argv[2], device='cpu')\n"
        "print(opened.backend.name, 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(model), str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=480)[0] for process in both] == ["openvino False\n"] * 2
    assert len(kept(tmp_path)) == 1


@pytest.mark.slow
def test_what_the_other_process_says(tmp_path: Path) -> None:
    """A model that cannot be loaded at all is the same StartError from the process that converts."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StartError, match=r"^model .* could not be loaded: "):
        opened(tmp_path, tmp_path / "cache")


@pytest.mark.slow
def test_the_other_process_ends_with_this_one(model: Path, tmp_path: Path) -> None:
    """The process that converts ends when the one that asked for it is gone."""
    (tmp_path / "target").mkdir()
    task = {"model": str(model), "name": "x", "sha256": "", "kind": "onnx", "target": str(tmp_path / "target")}
    command = [sys.executable, "-m", convert.__name__, json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(120) == 1
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked up in /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_leaves_no_conversion(model: Path, tmp_path: Path, end: signal.Signals) -> None:
    """A plugin that is killed while a model is converted leaves neither the process that does it nor its files."""
    options = ("--model", str(model), "--precision", "fp32", "--cache-dir", str(tmp_path))
    with start_plugin("plugins.embed_st", *options, wait="listening") as plugin:
        plugin.wait_for_log("event=convert ")
        mine = str(plugin.process.pid)

        def children() -> list[int]:
            pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
            return [pid for pid in pids if stat(pid)[1:2] == [mine]]

        wait_until(lambda: len(children()) == 1, "process that converts")
        (child,) = children()
        assert kept(tmp_path)
        plugin.signal(end)
        assert plugin.wait() == (0 if end is signal.SIGTERM else -end)
        wait_until(lambda: stat(child)[:1] in ([], ["Z"]), "end of the process that converts")
        wait_until(lambda: kept(tmp_path) == [], "empty folder")


def stat(pid: int) -> list[str]:
    """A process's state, its parent's id and more; nothing where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
