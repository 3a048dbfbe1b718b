"""The DatabaseProvider's messages to the values of `shared/vectors` and back: counted before they are converted, sized
before they are packed.

enums.py     modes and the like
filters.py   filters
requests.py  items, changes, searches
replies.py   hits and items, in the room that a reply has

A few megabytes can hold a million empty messages, and each costs a hundred times what it weighs once it is a value.
This is the one package of `shared` that knows the contract's messages. What a store says of its collections, and how
its metrics are named, is converted by the plugin.
"""
