"""Tools and what they run on; knows no gRPC."""

from __future__ import annotations

from .engine import Engine, Invocation, Result, Settings
from .provider import Provider
from .tool import ABSENT, Audit, Call, Output, Tool

__all__ = ["ABSENT", "Audit", "Call", "Engine", "Invocation", "Output", "Provider", "Result", "Settings", "Tool"]
