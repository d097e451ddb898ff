"""A key for a command whose user gave none: made in this machine's data folder, revoked at its end."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from headgate.cli import compose
from headgate.cli.client import LOCAL_HOSTS, Client
from headgate.cli.exits import Unreachable, Unusable
from headgate.config import client_key
from headgate.ops import keys as ops
from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIFE_S: Final = 12 * 3600  # of a key of a command that could not revoke it at its end
_KNOWN_WITHIN_S: Final = 3.0


@contextlib.contextmanager
def key_for(url: str, given: str | None, data: str | None, name: str) -> Iterator[str]:
    """Give the key to present: the user's own, else one that is made for this command alone.

    Args:
        url: of the gateway.
        given: the key of an option.
        data: the data folder of an option.
        name: of the key that is made.

    Raises:
        Unusable: there is none, and the gateway is elsewhere.
        Unreachable: nobody answers, or it has another data folder.
    """
    own = given or client_key()
    if own:
        yield own
        return
    if Client(url, "").host not in LOCAL_HOSTS:
        raise Unusable(
            "Say with which key: --key, or OPENAI_API_KEY. `headgate keys create --name me` makes one there."
        )
    Client(url, "").get("/readyz")
    order = KeyOrder(name=name, expires_in_s=_LIFE_S)
    with compose.admin(data) as desk:
        made = ops.create_key(LOCAL, desk, order)
        try:
            _wait_until_known(Client(url, made.text))
            yield made.text
        finally:
            ops.revoke_key(LOCAL, desk, made.record.id)


def _wait_until_known(client: Client) -> None:
    """Wait until the server has read the new key.

    Raises:
        Unreachable: it does not; the server has another data folder.
    """
    deadline = time.monotonic() + _KNOWN_WITHIN_S
    while client.get("/v1/models")[0] == 401:
        if time.monotonic() > deadline:
            raise Unreachable(
                f"The gateway at {client.url} does not know the keys of this data folder. Name its folder "
                "with --data, or give a key of it with --key."
            )
        time.sleep(0.05)
