"""`security:` of a plugin's block: what the host holds it to, and how.

    security: {timeout: "30s", max_memory: "1GB", sandbox: true, allowed_networks: ["localhost", "10.1.0.0/16"]}

`timeout` bounds each call. `max_memory` is what all its processes may have resident together (`host/memory.py`).
`sandbox` lets it write in its own folders alone and dial nothing but `allowed_networks` (`host/confine.py`); these
bound what it dials without `sandbox` too. What this machine cannot hold it to is refused at the start, by its name.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import confine, memory
from host.config import HostConfig, Plugin, Security
from host.config.security import LOCALHOST
from host.confine_answers import Networks
from host.log_files import file_name
from shared.errors import StartError
from shared.guide import ENFORCES

_OWN_FOLDERS = ("data_dir", "cache_dir")  # settings of a plugin that name a folder of its own
_PROBE_SECONDS = 20.0


def enforced(security: Security) -> list[str]:
    """The keys that are the host's to enforce and are set."""
    keys = {
        "max_memory": security.max_memory is not None,
        "sandbox": security.sandbox,
        "allowed_networks": security.allowed_networks is not None,
    }
    return [key for key, is_set in keys.items() if is_set]


def check(plugin: Plugin) -> None:
    """Raises StartError, naming the key that can be enforced only where the host starts the plugin."""
    security = plugin.security
    if plugin.address and enforced(security):
        raise StartError(
            f"plugin {plugin.name}: security.{enforced(security)[0]} is for a plugin that the host starts; give "
            "`path` in place of `address`, or have whoever starts it enforce that"
        )


def networks(plugin: Plugin) -> list[str] | None:
    """All that it may dial, as ranges that ipaddress reads; None: everything."""
    allowed = plugin.security.allowed_networks
    if allowed is None:
        return [] if plugin.security.sandbox else None
    return list(allowed)


def home(plugin: Plugin, config: HostConfig) -> Path:
    """The folder that a sandboxed plugin has of the host, beside those that its settings name."""
    return config.state / "data" / file_name(plugin.name)


def confinement(plugin: Plugin, config: HostConfig) -> dict[str, Any]:
    """The tether's options for it; its folders are made. Raises StartError."""
    options: dict[str, Any] = {}
    if (allowed := networks(plugin)) is not None:
        options["networks"] = allowed
    if plugin.security.sandbox:
        options["writable"] = [str(folder) for folder in _own_folders(plugin, config)]
    return options


def _own_folders(plugin: Plugin, config: HostConfig) -> list[Path]:
    """Where it may write in a sandbox; they are made. Raises StartError."""
    named = [plugin.setting(key) for key in _OWN_FOLDERS]
    own = home(plugin, config)
    paths = [own, *(Path(os.path.normpath(config.folder / folder)) for folder in named if folder)]
    # What is below another is the plugin's already. It is not looked at: the plugin can have made it a link.
    paths = [path for path in paths if not any(other in path.parents for other in paths)]
    try:
        for path in [*paths, own / "tmp"]:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"plugin {plugin.name}: cannot make {error.filename}: {error.strerror}") from None
    folders = [path.resolve() for path in paths]
    for folder in folders:
        if folder in config.file.parents or folder in own.resolve().parents:
            raise StartError(
                f"plugin {plugin.name}: security.sandbox would hold nothing: in its folder {folder} are the host's own "
                "files, by which it could change what is run; give it a folder below"
            )
    return folders


def may_be_dialled(address: str, options: Mapping[str, Any]) -> bool:
    """Whether the host dials `address` because a plugin with these options of the tether says that it listens there:
    what the plugin cannot reach itself the host is not to reach for it, with what the plugin has read in the name."""
    networks, writable = options.get("networks"), options.get("writable")
    if networks is None:
        return True
    if address.startswith("unix:"):
        path = os.path.realpath(address.removeprefix("unix:"))
        return writable is None or any(f"{path}/".startswith(f"{folder}/") for folder in writable)
    host = address.rpartition(":")[0].strip("[]")
    try:
        return Networks([*LOCALHOST, *networks]).allow(host)
    except ValueError:
        return host == "localhost"


def variables(plugin: Plugin, config: HostConfig) -> dict[str, str]:
    """What is added to the plugin's environment."""
    keys = enforced(plugin.security)
    added = {ENFORCES: ",".join(keys)} if keys else {}
    if plugin.security.sandbox:
        added["TMPDIR"] = str(home(plugin, config) / "tmp")
    if networks(plugin) is not None:
        # Names are looked up by TCP: a UDP packet can go anywhere.
        added |= {"RES_OPTIONS": "use-vc", "GRPC_DNS_RESOLVER": "native"}
    return added


def check_enforceable(plugin: Plugin) -> None:
    """Raises StartError, naming what this machine cannot hold the plugin to."""
    if plugin.security.max_memory is not None and not memory.enforceable():
        raise _cannot(plugin, "max_memory", "only Linux tells how much the processes of a plugin take")
    if networks(plugin) is not None:
        key = "sandbox" if plugin.security.sandbox else "allowed_networks"
        reason = why_no_sandbox()
        if reason:
            raise _cannot(plugin, key, reason)


def _cannot(plugin: Plugin, key: str, reason: str) -> StartError:
    return StartError(
        f"plugin {plugin.name}: security.{key} cannot be enforced here: {reason}; remove the line to run without"
    )


_PROBE = """
import socket, sys
def ends(action):
    try:
        action()
        return "allowed"
    except PermissionError:
        return "refused"
def dial():
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
print(ends(lambda: open(sys.argv[2], "w")), ends(dial))
"""


@functools.cache
def why_no_sandbox() -> str:
    """Empty where a process that tries what it may not is seen to fail, and with permission to succeed."""
    if sys.platform != "linux":
        return "it needs Linux"
    if not confine.known_machine():
        return "it needs an x86-64 or ARM64 machine"
    version = confine.landlock_version()
    if version < confine.OLDEST_LANDLOCK:
        has = f"version {version}" if version else "none"
        return f"it needs Landlock in version {confine.OLDEST_LANDLOCK} (Linux 6.2), and this kernel has {has}"
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(server.getsockname()[1]), str(Path(folder) / "file")]
        for allowed, expected in ((False, "refused refused"), (True, "allowed allowed")):
            networks, writable = (list(LOCALHOST), [folder]) if allowed else ([], [])
            seen, complaint = _probe({"networks": networks, "writable": writable}, arguments)
            if seen != expected:
                return complaint or f"what should be {expected} was {seen or 'never tried'}"
    return ""


def _probe(options: Mapping[str, Any], arguments: list[str]) -> tuple[str, str]:
    """What the probe printed, and its last line of complaint."""
    ours, theirs = socket.socketpair()
    tether = [sys.executable, "-I", "-S", str(Path(__file__).with_name("tether.py")), str(theirs.fileno())]
    command = [*tether, json.dumps(options), sys.executable, "-I", "-S", "-c", _PROBE, *arguments]
    with ours, theirs, contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603  # our own interpreter and program
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        return done.stdout.strip(), done.stderr.strip().rpartition("\n")[2].removeprefix("error: ")
    return "", "a process so confined did not answer"
