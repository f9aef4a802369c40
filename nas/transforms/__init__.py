"""Transforms from module to module, each with a report of what it did."""
