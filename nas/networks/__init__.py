"""The torch networks that search spaces build, one file for each family.

Families are made of `parts`, `mixers` and, for depthwise kernels of any size, `largekernel`; what
papers published is in `published`.
"""
