"""The files around a new plugin; what stands in double braces is filled in."""
