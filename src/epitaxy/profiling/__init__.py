"""What can be learned of a built candidate on this machine: its hot loop, and timed ablations."""
