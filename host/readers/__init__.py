"""A document's bytes as the lines that are cut into passages, one module a format.

What only a large library can read (PDF, Word), or what can be large itself, is read by a process of its own, with
bounds (`process.py`, `worker.py`).
"""
