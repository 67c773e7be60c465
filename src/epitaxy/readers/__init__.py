"""Built-in readers of profiler reports: one file a format, found by name."""
