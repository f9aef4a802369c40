"""Adapters on a frozen network: one file for each family of methods.

`seen.py` finds where they may go, `adapted.py` freezes the rest, `insertion.py` puts them in as a
`plan.py` says, `adapting.py` is the axis's stages.
"""
