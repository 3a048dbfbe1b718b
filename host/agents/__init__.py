"""Agents: a question goes in, a stream of events comes out (`events.py`). `host/README.md` tells the order of files."""
