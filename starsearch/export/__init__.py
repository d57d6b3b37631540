"""Trained networks as files that others load, a format a file; each is read back before it takes its place."""
