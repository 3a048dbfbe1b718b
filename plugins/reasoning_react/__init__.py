"""Hector's ReasoningStrategy: ReAct that always ends in an answer."""
