"""AWS Secrets Manager, through boto3: `NAME#FIELD`, where NAME may be an ARN."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from headgate.vaults import VaultError
from headgate.vaults.fields import member, split

_PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})


def read(reference: str) -> str:
    """Return a secret, or one field of a secret that is a JSON object.

    Raises:
        VaultError: it cannot be had.
    """
    name, field = split(reference)
    where = f"aws-sm:{reference}"
    try:
        answer = boto3.client("secretsmanager", config=_PATIENCE).get_secret_value(SecretId=name)
    except ClientError as fault:
        code = fault.response.get("Error", {}).get("Code", "refused")
        raise VaultError(f"{where}: AWS Secrets Manager says {code}.") from fault
    except BotoCoreError as fault:
        raise VaultError(f"{where}: {type(fault).__name__}: {fault}.") from fault
    text = answer.get("SecretString")
    if not isinstance(text, str):
        raise VaultError(f"{where}: the secret is binary; store the key as text.")
    return member(text, field, where)
