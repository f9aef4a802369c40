"""The torch networks that search spaces build: token mixers, blocks and skeletons."""
