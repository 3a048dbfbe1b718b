"""A durable vector store behind Hector's DatabaseProvider interface: SQLite is the truth, an hnswlib graph finds."""
