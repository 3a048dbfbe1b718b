"""The engine's ports over gRPC: an LLM provider, and tool providers that look like one."""
