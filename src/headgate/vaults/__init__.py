"""Secrets that live in a secret manager, read through its own client. Each is an extra to install.

`aws-sm:NAME#FIELD`, `azure-kv:https://VAULT.vault.azure.net/NAME`, `vault:MOUNT/PATH#FIELD`. The clients find
their own credentials, as everywhere on the machine: environment, files, the machine's identity.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# scheme, module that reads it, extra that it takes
MANAGERS: Final = {
    "aws-sm": ("headgate.vaults.aws", "aws"),
    "azure-kv": ("headgate.vaults.azure", "azure"),
    "vault": ("headgate.vaults.hashicorp", "vault"),
}


class VaultError(Exception):
    """A secret that cannot be had: says why and what to do, and nothing of the secret."""


def is_reference(value: str) -> bool:
    """Say whether a setting names a secret of a secret manager."""
    return value.partition(":")[0] in MANAGERS


def fetch(reference: str) -> str:
    """Return the secret that a reference names.

    Raises:
        VaultError: the client is not installed, or has not got it.
    """
    scheme, _, name = reference.partition(":")
    module, extra = MANAGERS[scheme]
    try:
        read: Callable[[str], str] = import_module(module).read
    except ModuleNotFoundError as fault:
        raise VaultError(
            f"{reference}: {fault.name} is not installed. Install it with: pip install 'headgate[{extra}]'"
        ) from fault
    return read(name)
