"""What runs a deployed form: one module for each runtime, named as its package."""
