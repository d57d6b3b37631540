"""StarBench: a table of real trainings of networks of the shipped space, and searches replayed on it."""
