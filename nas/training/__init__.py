"""Data, recipes and the brief, resumable training that a search spends its time on."""
