"""The page of `python -m host serve --ui PORT`. `server.py` serves it; `static/` is what the browser gets."""
