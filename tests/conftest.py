"""Set before anything imports torch, here and in the processes that tests start."""

from __future__ import annotations

import os

from hypothesis import settings

# The suite runs a process a core (pytest-xdist): more threads would only wait for each other. Nor do tiny networks,
# tiny images and the Gaussian process's small matrices gain anything by them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

# The default suite tries the same examples each time; CI tries others with --hypothesis-profile random.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("repeatable")
