"""OpenVINO without its telemetry, which forks a process at the import to tell Google Analytics of it."""

from __future__ import annotations

import sys
from typing import Any


def import_openvino() -> Any:
    """The library. Its telemetry is a package of its own, without which it does well."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so that it cannot be imported
    import openvino

    return openvino
