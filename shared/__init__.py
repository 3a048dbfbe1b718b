"""What all five plugins share: settings, errors, serving, credentials, logging. One idea a module.

Read in this order: `errors`, `config`, `cli`, `server`, `calls`. Nothing in here knows a plugin.
"""
