"""The shapes of paths below what outlives its request: `""`, `/{id}`, `/{id}/cancel`."""

from __future__ import annotations


def shape(path: str) -> str:
    """Return the shape of a path without `/v1`, behind its first segment."""
    _, *rest = path.strip("/").split("/")
    return "".join(("/{id}", *(f"/{part}" for part in rest[1:]))) if rest else ""
