"""From a trained module to a file that runs, with the numbers proven on that file."""
