"""What mixes pixels within a channel: one file for each way, and `named` to choose by name."""
