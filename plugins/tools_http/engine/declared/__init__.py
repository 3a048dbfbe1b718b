"""Tools that an operator writes down in the setting `tools`."""

from .reader import read_tools

__all__ = ["read_tools"]
