"""Boot loaders: one file each, one contract."""
