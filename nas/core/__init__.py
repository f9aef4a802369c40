"""Data and maths of a search: stdlib, numpy and moocore only; no torch, no SQL, no I/O."""
