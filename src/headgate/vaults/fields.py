"""A reference to a secret, and to one member of it."""

from __future__ import annotations

import json

from headgate.vaults import VaultError


def split(reference: str) -> tuple[str, str]:
    """Return the name and the field of `NAME#FIELD`; the field is empty where there is none."""
    name, _, field = reference.partition("#")
    if not name:
        raise VaultError(f"{reference!r} names no secret.")
    return name, field


def member(text: str, field: str, reference: str) -> str:
    """Return a member of a secret that is a JSON object, or the whole text without a field.

    Raises:
        VaultError: there is no such member, or it is no text.
    """
    if not field:
        return text.strip()
    try:
        content = json.loads(text)
    except ValueError as fault:
        raise VaultError(f"{reference}: the secret is not JSON, so it has no field {field!r}.") from fault
    return text_of(content, field, reference)


def text_of(content: object, field: str, reference: str) -> str:
    """Return a member of an object.

    Raises:
        VaultError: there is no such member, or it is no text.
    """
    value = content.get(field) if isinstance(content, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise VaultError(f"{reference}: the secret has no text in its field {field!r}.")
    return value.strip()
