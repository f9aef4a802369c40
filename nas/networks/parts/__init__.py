"""What networks of several families are built with, and the algebra that merges it away."""
