"""Latency predicted from what a device's layers cost: calibration, profiles, predictions and their checks."""
