"""Measurements: ratios to a library or a peer, both sides in turn in one run. `make bench` runs them."""
