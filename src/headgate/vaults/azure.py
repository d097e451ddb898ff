"""Azure Key Vault, through its own client: `https://VAULT/NAME`, or `…/NAME/VERSION`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

from headgate.vaults import VaultError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_PATIENCE = {"connection_timeout": 5, "read_timeout": 10, "retry_total": 2}


def read(reference: str, credential: TokenCredential | None = None, **options: Any) -> str:
    """Return a secret.

    Args:
        reference: `https://VAULT/NAME`, or with `/VERSION`.
        credential: who asks; None: as Azure's own tools find it.
        options: of the client.

    Raises:
        VaultError: it cannot be had.
    """
    parts = urlsplit(reference)
    names = parts.path.strip("/").removeprefix("secrets/").split("/")
    where = f"azure-kv:{reference}"
    if parts.scheme != "https" or not parts.netloc or not 1 <= len(names) <= 2 or not names[0]:
        raise VaultError(f"{where} is not azure-kv:https://VAULT.vault.azure.net/NAME.")
    try:
        client = SecretClient(
            f"https://{parts.netloc}", credential or DefaultAzureCredential(), **{**_PATIENCE, **options}
        )
        with client:
            value = client.get_secret(*names).value
    except AzureError as fault:
        raise VaultError(f"{where}: Azure Key Vault: {type(fault).__name__}.") from fault
    if not value:
        raise VaultError(f"{where}: the secret is empty.")
    return value.strip()
