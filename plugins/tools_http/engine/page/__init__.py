"""The tool fetch_page: a page of the web as Markdown that a model can read."""
