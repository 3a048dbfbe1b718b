"""Text and tool calls behind Hector's LLMProvider interface, from OpenAI-compatible endpoints."""
