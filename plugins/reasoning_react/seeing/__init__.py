"""A run as people see it: in the terminal (`terminal`), as a page (`page`), as a file to go on from (`trace`)."""
