"""What all tests share."""

from __future__ import annotations

import hypothesis

# How long an example takes depends on what else the machine does, and is no test's subject.
hypothesis.settings.register_profile("epitaxy", deadline=None)
hypothesis.settings.load_profile("epitaxy")
