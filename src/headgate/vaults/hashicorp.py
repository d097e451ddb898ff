"""HashiCorp Vault (or OpenBao), through hvac: `MOUNT/PATH#FIELD` of a KV engine, version 2.

The client takes `VAULT_ADDR` and `VAULT_TOKEN`, or the token that `vault login` has left.
"""

from __future__ import annotations

import hvac
import requests

from headgate.vaults import VaultError
from headgate.vaults.fields import split, text_of


def read(reference: str) -> str:
    """Return one field of a secret; `value` where none is named.

    Raises:
        VaultError: it cannot be had.
    """
    path, field = split(reference)
    where = f"vault:{reference}"
    mount, sign, name = path.strip("/").partition("/")
    if not (mount and sign and name):
        raise VaultError(f"{where} is not vault:MOUNT/PATH#FIELD.")
    try:
        client = hvac.Client(timeout=10)
        answer = client.secrets.kv.v2.read_secret_version(
            path=name, mount_point=mount, raise_on_deleted_version=True
        )
    except hvac.exceptions.VaultError as fault:
        raise VaultError(f"{where}: Vault says {type(fault).__name__}.") from fault
    except requests.RequestException as fault:
        raise VaultError(f"{where}: Vault cannot be reached: {type(fault).__name__}.") from fault
    content = answer.get("data", {}).get("data") if isinstance(answer, dict) else None
    return text_of(content, field or "value", where)
