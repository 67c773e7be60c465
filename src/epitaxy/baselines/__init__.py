"""Built-in baselines: one file each, found by name."""
