"""Tools that an operator writes down in the setting `tools`."""

from .reader import Declared, read_tools

__all__ = ["Declared", "read_tools"]
