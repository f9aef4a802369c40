"""The command line: each command parses, makes one call of `nas.api`, and prints."""
