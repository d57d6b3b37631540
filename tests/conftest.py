"""Set before anything imports torch, here and in the processes that tests start."""

from __future__ import annotations

import os

# The suite runs a process a core (pytest-xdist): more threads would only wait for each other. Nor do tiny networks,
# tiny images and the Gaussian process's small matrices gain anything by them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
