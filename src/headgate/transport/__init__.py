"""Bytes to a provider and back: implementations of `ports.Transport`."""
