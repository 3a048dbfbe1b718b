"""Text to vectors behind Hector's EmbedderProvider interface, on sentence-transformers."""
