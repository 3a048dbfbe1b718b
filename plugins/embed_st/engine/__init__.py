"""The embedder without its transport. Read `engine`, then `backend` (what runs the model), then `models`.

engine.py   texts to embeddings: what may be asked, in which order the model sees it
backend.py  one loaded model: tokens and vectors of a few texts
models.py   where a model's files are found, and that they are the right ones
"""

from plugins.embed_st.engine.engine import Embedding, Engine, Options, Overflow

__all__ = ["Embedding", "Engine", "Options", "Overflow"]
