"""A database provider for Hector."""

PACKAGE = __name__  # the command, the environment variables and the help follow this name
