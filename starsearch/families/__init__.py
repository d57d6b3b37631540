"""Families of networks: what an architecture may say, its text, its layers, its costs and its module."""
