"""What `python -m host new` starts a plugin from: one small plugin of each kind, which runs where it stands too.

In a project `host.new.kinds.KIND` becomes the project's name, and `shared` its own copy (`host/new/rewrite.py`).
"""
