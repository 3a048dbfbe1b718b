"""The one error of the readers."""


class Unreadable(Exception):
    """The document cannot be read. The message is why, in a few words to count it by; no part of the document."""
