"""Text to vectors behind Hector's EmbedderProvider interface, on sentence-transformers."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
