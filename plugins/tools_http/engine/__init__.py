"""Tools and what they run on; knows no gRPC. Imports nothing here: a worker process imports what it works with."""
