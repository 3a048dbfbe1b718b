"""Tools and what they run on; knows no gRPC."""
