"""The data plane over HTTP: bytes to calls, and answers to bytes."""
