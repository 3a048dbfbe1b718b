"""What every vector store speaks of, whatever keeps its vectors, and what may be asked of any. It knows no transport.

items.py    what is stored, asked and written
changes.py  metadata that changes while the vector stays
filters.py  filters on metadata and ids
checks.py   names, ids, sizes, and what is said where they are wrong

As the contract's messages they stand in `shared/vector_messages`.
"""
