"""The five plugins, one package each, the same files in all: `__main__`, `config`, `engine`, `servicer`."""
