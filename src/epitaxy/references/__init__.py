"""Built-in references: one file each, found by name."""
