"""Set before anything imports torch, here and in the processes that tests start."""

from __future__ import annotations

import os

# The suite runs a process a core (pytest-xdist): more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
