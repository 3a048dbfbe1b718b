"""A durable vector store behind Hector's DatabaseProvider interface: SQLite is the truth, an hnswlib graph finds."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
