"""ToolProvider: the web, your APIs and your data as tools for a model, under the operator's policy."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
