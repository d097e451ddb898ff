"""Told of each finished call: counters and the log. Nothing here may slow or fail a call."""
