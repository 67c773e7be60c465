"""Built-in checks: one file each, found by name."""
