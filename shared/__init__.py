"""What all five plugins share: settings, errors, serving, credentials, logging. One idea a module.

Read in this order: `errors`, `config`, `cli`, `server`, `calls`; then what holds strangers off: `accept`, `patience`,
`wire`. Nothing in here knows a plugin. `vectors` and `vector_messages` are what vector stores have in common. `fields`,
`journal`, `sealed` and `testing` are for the plugins that `python -m host new` makes, which have a copy of what they
use.
"""

import os

# gRPC's core would write lines of its own to stderr, among them one for each header of a stranger's that it cannot
# read, without a bound. It looks here when grpc is imported, which is after this.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
