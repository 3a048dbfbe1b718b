"""Attacks the settings: broken, hostile and odd files, given to `python -m plugins.NAME --config FILE --check`.

A file may be good or bad: the status is 0 and nothing is on stderr, or it is 2 and one line there says what is wrong.
It never takes long, never ends in a traceback, and never shows a secret. So that thousands of files can be tried, the
plugin's module is imported once, and each file is a fork of that process.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from shared.server import run
from tests.fuzz.findings import Finding
from tests.fuzz.mutate import mutate
from tests.servers import ROOT, environment

MODULES = {
    name: f"plugins.{name}"
    for name in ("vector_hnsw", "vector_pg", "embed_st", "llm_openai", "tools_http", "reasoning_react")
}
SECTIONS = {
    "vector_hnsw": "database_providers",
    "vector_pg": "database_providers",
    "embed_st": "embedder_providers",
    "llm_openai": "llm_providers",
    "tools_http": "tool_providers",
    "reasoning_react": "reasoning_strategies",
}
CPU_SECONDS = 5  # that one file may take
ADDRESS_SPACE = 4 * 2**30  # bytes
SECRET = "canary-5ecret-Zx81"  # stands where secrets stand, and must be shown nowhere
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 8, 2**31, 2**63, 2**70, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *(
        "",
        " ",
        "a",
        "true",
        "yes",
        "30s",
        "-5s",
        "1e9h",
        "99999999999999999m",
        "64MiB",
        "1e400GiB",
        "0x10",
        "1_000",
        "٣",
    ),
    *(
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "[::1",
        "999.1.1.1",
        "\ud7ff",
        "🦊",
        "\x07",
        "a\nb",
        "x" * 5_000,
        "../../etc/passwd",
    ),
    *(
        "${",
        "${}",
        "${HOME",
        "${HOME:-${X}}",
        "$$",
        "$",
        "${UNSET_VARIABLE}",
        "{",
        "[",
        '{"a": 1}',
        "[1, 2]",
        '{"a":' * 2_000,
    ),
    *(
        "http://127.0.0.1:notaport",
        "http://[::1",
        "ftp://x",
        "http://",
        "://",
        "none",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
    ),
    *([], [1], {}, {"a": {"b": {"c": []}}}, {1: 2}, {None: None}, [[[[]]]]),
)
SECRET_VALUES: tuple[tuple[str, Any], ...] = (
    ("token", SECRET),
    ("token", f" {SECRET}\n"),
    ("token", [SECRET]),
    ("token", {"value": SECRET}),
    ("url", f"postgresql://me:{SECRET}@127.0.0.1:1/db"),
    ("url", f"host=127.0.0.1 password='{SECRET}"),
    ("url", [f"postgresql://me:{SECRET}@127.0.0.1:notaport"]),
    ("replica_url", {"password": SECRET}),
    ("api_key", SECRET),
    ("api_key", {SECRET: SECRET}),
    ("headers", {"authorization": f"Bearer {SECRET}"}),
    ("headers", {"x-anything": SECRET}),
    ("headers", f"authorization: Bearer {SECRET}"),
    ("headers", f'{{"authorization": "Bearer {SECRET}"'),
    ("headers", {"authorization": [SECRET]}),
    ("query", {"key": SECRET}),
    ("query", f"key={SECRET}"),
    ("endpoint", f"http://user:{SECRET}@127.0.0.1:1/v1"),
    ("endpoint", f"http://127.0.0.1:1/v1?key={SECRET}"),
    ("endpoint", f"http://127.0.0.1:1/v1?api_key={SECRET}&x=1"),
    ("endpoint", f"http://user:{SECRET} x@127.0.0.1:notaport/v1"),
    ("proxy", f"http://user:{SECRET}@127.0.0.1:notaport"),
    ("proxy", f"http://user:{SECRET}@127.0.0.1:1"),
    ("fallbacks", {"other": {"endpoint": "http://127.0.0.1:1/v1", "api_key": SECRET, "headers": {"a": SECRET}}}),
    ("fallbacks", {"other": {"endpoint": f"http://u:{SECRET}@127.0.0.1:1/v1", "query": {"k": SECRET}}}),
    ("fallbacks", {"other": {"api_key": [SECRET]}}),
    ("fallbacks", f'{{"other": {{"api_key": "{SECRET}"'),
    ("body", {"password": SECRET}),
    ("credentials", {"https://api.test": {"bearer": SECRET}}),
    ("credentials", {"https://api.test": {"basic": f"me:{SECRET}"}}),
    ("credentials", {"https://api.test": {"oauth2": {"token_url": "https://t.test", "client_secret": SECRET}}}),
    ("credentials", {f"https://me:{SECRET}@api.test": {"bearer": "x"}}),
    ("credentials", {"https://api.test": SECRET}),
    ("tools", {"a": {"url": "https://api.test", "description": "A.", "headers": {"X-Key": SECRET}}}),
    ("tools", {"a": {"url": "https://api.test", "description": "A.", "haeders": {"name": SECRET}}}),
    ("tools", {"a": {"url": "https://api.test", "description": "A.", "credential": SECRET}}),
    ("tools", {"a": SECRET}),
    ("tools", {"a": {"address": "127.0.0.1:1", "token": SECRET}}),
    ("tools", {"a": {"address": "127.0.0.1:1", "tokne": SECRET}}),
    ("llm", {"address": "127.0.0.1:1", "token": SECRET}),
    ("llm", {"address": f"{SECRET}@127.0.0.1:1"}),
    ("llm", f"{{'address': '127.0.0.1:1', 'token': '{SECRET}'"),
    ("state_key", SECRET),
    ("state_key", 3 * SECRET),
    ("older_state_keys", [3 * SECRET, 4 * SECRET]),
    ("older_state_keys", f"{3 * SECRET}, {SECRET}"),
    ("openapi", {"a": {"document": "./a.yaml", "credentials": {"key": SECRET}}}),
    ("openapi", {"a": {"document": f"http://127.0.0.1:1/?key={SECRET}", "headers": {"X-Key": SECRET}}}),
)
HOSTILE = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "models: &m\n  again: *m\n",
    "plugins: &p\n  database_providers: *p\n  llm_providers: *p\n  embedder_providers: *p\n",
    "a: !!python/object/apply:os.system ['true']\n",
    "port: 1\nport: 2\ntoken: x\ntoken: ''\n",
    "? [a, b]\n: c\n",
    "- 1\n- 2\n",
    "just text\n",
    "--- a: 1\n--- b: 2\n",
    "port: 0\n---\nport: 1\n",
    "[" * 5_000,
    "{a: " * 5_000,
    "a: " + "- " * 20_000,
    "<<: {port: 1}\nport: 2\n",
    "<<: [*x]\n",
    "port: 2026-11-26\n",
    "port: 1:30\n",
    "port: !!binary aGVsbG8=\n",
    "port: !!float x\n",
    "port: !!int ''\n",
    "port: 0b\n",
    'data_dir: "\\ud800"\n',
    "\tport: 1\n",
    "%YAML 9.9\n---\nport: 1\n",
    "port: " + "9" * 5_000 + "\n",
    "timeout: " + "9" * 5_000 + "s\n",
    "host: " + "a." * 5_000 + "\n",
)


@dataclass(frozen=True)
class Outcome:
    """How `--check` ended. `status` is negative where a signal ended it."""

    status: int
    out: str
    err: str
    seconds: float

    def problem(self, *, hides: bool) -> str:
        """What is wrong with it, or an empty text. With `hides` the secret may not be shown."""
        if self.status not in (0, 2):
            return f"status {self.status}: {self.err[-300:]}"
        if "Traceback" in self.err:
            return f"a traceback: {self.err[-300:]}"
        lines = self.err.splitlines()
        if self.status == 2 and (len(lines) != 1 or not lines[0].startswith("error: ")):
            return f"{len(lines)} lines instead of one error: {self.err[:300]}"
        if self.status == 0 and not all(line.startswith("warning: ") for line in lines):
            return f"status 0 and yet on stderr: {self.err[:300]}"
        if hides and SECRET in self.out + self.err:
            shown = next(line for line in (self.out + self.err).splitlines() if SECRET in line)
            return f"shows the secret: {shown[:300]}"
        return ""


def attack(plugin: str, seconds: float, seed: str, folder: Path, say: Callable[[str], object]) -> list[Finding]:
    """Tries files for so long, in a process of its own, and gives what was found, each kind of thing once."""
    argv = [sys.executable, "-m", "tests.fuzz.settings", plugin, str(seconds), seed, str(folder)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env=environment(), check=True)
    report = json.loads(done.stdout)
    findings = [
        Finding(plugin, "settings", what, seed, [{"sent": "a file", "method": "", "hex": file}])
        for what, file in report["problems"].items()
    ]
    say(f"{plugin:12} settings            {report['files']:7} files   longest {report['longest']:.2f} s")
    for finding in findings:
        say(f"    {finding.what[:200]}")
    return findings


def files(plugin: str, random: Random) -> Iterator[tuple[bytes, bool]]:
    """Files, and whether the secret in them stands where it must not be shown."""
    keys = _keys(plugin)
    example = (ROOT / "plugins" / plugin / "example.yaml").read_bytes()
    while True:
        chance = random.random()
        if chance < 0.25:
            yield mutate(example, random), False
        elif chance < 0.35:
            text = random.choice(HOSTILE)
            yield (
                mutate(text.encode(), random) if random.random() < 0.3 else text.encode("utf-8", "surrogatepass"),
                False,
            )
        else:
            settings: dict[Any, Any] = {
                random.choice(keys): random.choice(VALUES) for _ in range(random.choice((0, 1, 1, 2, 4)))
            }
            known = [(key, value) for key, value in SECRET_VALUES if key in keys]
            if random.random() < 0.5:
                key, value = random.choice(known)
                settings[_mistyped(key, random)] = value
            document: Any = settings
            if random.random() < 0.3:
                name = random.choice((plugin, "other", "", 5))
                block = {"type": "grpc", "path": random.choice((MODULES[plugin], "./x", 5)), "config": settings}
                document = {"plugins": {SECTIONS[plugin]: {name: block}}}
            text = yaml.safe_dump(document, allow_unicode=random.random() < 0.5)
            raw = text.encode("utf-8", "surrogatepass")
            yield (mutate(raw, random), False) if random.random() < 0.2 else (raw, True)


def _mistyped(key: str, random: Random) -> str:
    """Now and then a letter is missing, as people write it."""
    if random.random() < 0.8:
        return key
    place = random.randrange(len(key))
    return key[:place] + key[place + 1 :]


def _keys(plugin: str) -> list[str]:
    module = importlib.import_module(f"plugins.{plugin}.config")
    return [*module.Config.__dataclass_fields__, "unknown"]


def load(plugin: str) -> None:
    """Imports what its --check needs, so that no fork has to."""
    importlib.import_module(f"{MODULES[plugin]}.__main__")
    if plugin == "llm_openai":
        importlib.import_module("plugins.llm_openai.engine")
    if plugin == "tools_http":
        importlib.import_module("plugins.tools_http.engine.openapi")
    if plugin == "reasoning_react":
        importlib.import_module("plugins.reasoning_react.engine.engine")


def check(plugin: str, file: Path) -> Outcome:
    """Runs the plugin's --check in a fork of this process."""
    out, err = file.with_suffix(".out"), file.with_suffix(".err")
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(plugin, file, out, err)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - began
    shown, logged = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return Outcome(status, shown, logged, seconds)


def _child(plugin: str, file: Path, out: Path, err: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    signal.alarm(4 * CPU_SECONDS)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [plugin, "--config", str(file), "--check"]
    status = 1
    try:
        run(importlib.import_module(f"{MODULES[plugin]}.__main__").main)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    plugin, seconds, seed, folder = sys.argv[1:]
    load(plugin)
    gists: dict[str, tuple[str, bytes]] = {}  # so that equal problems are told once
    count, longest, end = 0, 0.0, time.monotonic() + float(seconds)
    path = Path(folder) / f"{plugin}.yaml"
    for raw, hides in files(plugin, Random(f"{seed}/{plugin}/settings")):
        path.write_bytes(raw)
        outcome = check(plugin, path)
        count, longest = count + 1, max(longest, outcome.seconds)
        if problem := outcome.problem(hides=hides):
            gists.setdefault(
                re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "…", problem)[:60], (problem.replace(str(path), "FILE"), raw)
            )
        if time.monotonic() > end or len(gists) > 100:
            break
    problems = {problem: raw.hex() for problem, raw in gists.values()}
    print(json.dumps({"files": count, "longest": longest, "problems": problems}))


if __name__ == "__main__":
    main()
