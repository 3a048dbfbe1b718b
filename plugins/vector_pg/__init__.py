"""Hector's DatabaseProvider interface on PostgreSQL with pgvector, for more than one process and machine."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
