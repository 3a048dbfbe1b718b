"""The development host: starts plugins, indexes documents with them and searches. Not for production.

Read in this order: `__main__`, `config`, `supervisor`, `connect`, then `documents`, `chunks`, `manifest`, `index`.
"""
