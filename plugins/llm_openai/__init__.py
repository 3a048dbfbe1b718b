"""Text and tool calls behind Hector's LLMProvider interface, from OpenAI-compatible endpoints."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
