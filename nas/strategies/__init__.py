"""What to try next: every way of proposing architectures, behind one method."""
