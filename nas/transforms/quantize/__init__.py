"""Number formats of a network's layers: chosen, learned while training, written into the file."""
