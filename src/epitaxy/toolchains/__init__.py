"""Built-in toolchains: one file each, found by name."""
