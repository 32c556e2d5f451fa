"""Stores: one file each, opened lazily by `open_source` and `open_destination`."""
