"""The kinds of plugins, by their type names in the plugin guide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str  # the guide's, and that of its folder in `kinds/`
    service: str  # of the contract
    section: str  # of the guide's YAML
    port: int  # by default
    needs: tuple[str, ...] = ()  # what pip has to install for its engine
    check: str = ""  # what the conformance kit may do with it

    @property
    def described(self) -> str:
        return f"{'an' if self.service.startswith(('E', 'L')) else 'a'} {self.service}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("llm_provider", "LLMProvider", "llm_providers", 8081, check="--prompt 'Say hello.'"),
        Kind(
            "database_provider",
            "DatabaseProvider",
            "database_providers",
            8082,
            ("filelock>=3.16,<5", "numpy>=2.0,<3"),
        ),
        Kind("embedder_provider", "EmbedderProvider", "embedder_providers", 8083, ("numpy>=2.0,<3",)),
        Kind(
            "tool_provider",
            "ToolProvider",
            "tool_providers",
            8084,
            ("jsonschema-rs>=0.60,<0.70", "tzdata>=2026.1,<2028"),
            check="--tool current_time",
        ),
        Kind("reasoning_strategy", "ReasoningStrategy", "reasoning_strategies", 8085, check="--prompt 'What is new?'"),
    )
}
