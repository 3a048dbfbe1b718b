"""What the contract names: the services, the guide's RPCs, and where the additions begin."""

from __future__ import annotations

FIRST_ADDITION = 10  # the number of a field; those below are the guide's
SERVICES = {
    "llm": "LLMProvider",
    "database": "DatabaseProvider",
    "embedder": "EmbedderProvider",
    "tools": "ToolProvider",
    "reasoning": "ReasoningStrategy",
}
GUIDE_RPCS = {
    "llm": ("GenerateText", "StreamText", "CallTool", "ListModels"),
    "database": ("CreateCollection", "DeleteCollection", "UpsertVectors", "SearchVectors", "DeleteVectors"),
    "embedder": ("EmbedText", "EmbedBatch", "GetDimensions"),
    "tools": ("ListTools", "ExecuteTool", "GetToolSchema"),
    "reasoning": ("Initialize", "ProcessIteration", "Finalize"),
}
