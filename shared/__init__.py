"""What all five plugins share: settings, errors, serving, credentials, logging. One idea a module.

Read in this order: `errors`, `config`, `cli`, `server`, `calls`; then what holds strangers off: `accept`, `patience`,
`wire`. Nothing in here knows a plugin. `vectors` and `vector_messages` are what vector stores have in common. `fields`,
`journal`, `sealed` and `testing` are for the plugins that `python -m host new` makes, which have a copy of what they
use.
"""
