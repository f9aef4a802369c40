"""The study database, and the files that it names."""
