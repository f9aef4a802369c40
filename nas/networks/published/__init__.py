"""Published networks, as choices of the spaces of `search_spaces/`: one file for each."""
