"""ToolProvider: the web, your APIs and your data as tools for a model, under the operator's policy."""
