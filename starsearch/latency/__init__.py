"""Latency of a network on a device: measured in pairs with a reference network, or predicted from a profile."""
