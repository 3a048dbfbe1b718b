"""Hector's ReasoningStrategy: ReAct that always ends in an answer."""

PACKAGE = __name__  # also a copy's: the command, the variables and the remedies that it names follow it
