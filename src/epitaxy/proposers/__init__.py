"""Built-in proposers: one file each, found by name."""
