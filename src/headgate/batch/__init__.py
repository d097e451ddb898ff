"""Batches: how they are read, run, paid and published."""
