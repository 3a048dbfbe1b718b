"""Tools and what they run on; knows no gRPC."""

from __future__ import annotations

from .engine import Engine, Invocation, Settings
from .provider import Provider
from .replies import Result
from .tool import ABSENT, Audit, Call, Output, Tool

__all__ = ["ABSENT", "Audit", "Call", "Engine", "Invocation", "Output", "Provider", "Result", "Settings", "Tool"]
