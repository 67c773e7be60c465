"""Built-in machines: one file each, found by name."""
