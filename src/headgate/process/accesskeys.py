"""Keys that sign requests, where AWS's own rules find them: environment, files, roles, the machine's own.

One task for each host, off the path of calls, which only read what is there. botocore looks, and renews keys
that expire a quarter of an hour before they do; it waits for files and networks, so it works in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.credentials import AccessKeys, Signing

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import RefreshableCredentials

    from headgate.values import Host

_LOOK_EVERY_S = 60.0
_LONGEST_WAIT_S = 60.0


class AccessKeyKeeper:
    """Keep the keys of one host.

    Args:
        host: with `signing` whose keys are not given.
        report: told why keys could not be had.
        look_every_s: whether they have changed.
    """

    def __init__(
        self, host: Host, report: Callable[[str], None], look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        assert host.signing is not None
        self._host = host
        self._signing: Signing = host.signing
        self._report = report
        self._look_every_s = look_every_s
        self._renewing: RefreshableCredentials | None = None  # what renews itself

    async def run(self) -> None:
        """Look for keys for as long as the process serves; old ones serve as long as they are good."""
        failures = 0
        while True:
            failures = 0 if await self.once() else failures + 1
            soon = min(2.0**failures, _LONGEST_WAIT_S)
            await asyncio.sleep(min(soon, self._look_every_s) if failures else self._look_every_s)

    async def once(self) -> bool:
        """Look for keys; say whether there are any."""
        keys, trouble = await asyncio.to_thread(self._look)
        if keys is None:
            self._report(f"no keys for provider {self._host.name!r}: {trouble}")
        self._signing.renew(self._signing.keys if keys is None else keys, trouble)
        return keys is not None

    def _look(self) -> tuple[AccessKeys | None, str]:
        """Return the keys, or why there are none."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._found(), ""
        except (BotoCoreError, ClientError, OSError, ValueError, LookupError) as fault:
            return None, str(fault) or type(fault).__name__

    def _found(self) -> AccessKeys:
        """Return what botocore finds.

        Raises:
            LookupError: it finds nothing.
        """
        from botocore.credentials import RefreshableCredentials
        from botocore.session import Session

        credentials = self._renewing
        if credentials is None:
            session = Session(profile=self._signing.profile or None)
            session.set_config_variable("region", self._host.location)  # of the service that lends a role
            credentials = session.get_credentials()
        if credentials is None:
            raise LookupError("none in the environment, in AWS's files, or of this machine's role")
        frozen = credentials.get_frozen_credentials()
        self._renewing = credentials if isinstance(credentials, RefreshableCredentials) else None
        return AccessKeys(frozen.access_key, frozen.secret_key, frozen.token or "")
