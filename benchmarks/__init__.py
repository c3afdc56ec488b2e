"""Measurements, each a ratio against a named peer in one run."""
