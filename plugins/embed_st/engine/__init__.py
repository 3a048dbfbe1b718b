"""The embedder without its transport. Read in this order:

engine.py       what may be asked; texts to tokens, turns at the model, vectors as they were asked for
scheduler.py    who is next at the model, and with whom
model.py        the fastest backend that gives the vectors of sentence-transformers
backends/       what runs a model: sentence-transformers itself, OpenVINO (quiet_openvino.py), onnxruntime
tokenizer.py    texts to tokens; worker.py, the threads for it
conversions.py  converted models on disk; convert.py makes them, reference.py has what they are tested with
models.py       where a model's files are found, and that they are the right ones; facts.py what is known of it
"""

from .backends import Floats
from .engine import MOST_TEXTS, Embedding, Engine, Options, Outcome, Overflow

__all__ = ["MOST_TEXTS", "Embedding", "Engine", "Floats", "Options", "Outcome", "Overflow"]
