"""`python -m host new`: a plugin of one's own, as a project that stands alone.

Reading order: `command`, `kind` (what there is), `names` (what a plugin may be called), `generate` (the files),
`rewrite` (our imports become the project's), `copied` (its copy of `shared/`, and how that is renewed). `kinds/` has
the five plugins that projects begin with, `project/` the files around them.
"""
