"""One data folder, and the gateways that serve it one after another: failpoints kill them under a batch."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import openai
from tests.stores.books import figures
from tests.surfaces.conftest import Gateway

_BOOKED_WITHIN_S = 15.0  # on a busy machine


class Lives:
    """The gateways of a folder.

    Args:
        folder: of their settings and data.
        settings: as TOML.
        each: nano-USD that a line costs.
        cap: of all that is spent, unless a start says another.
        environment: further variables of each.
    """

    def __init__(
        self,
        folder: Path,
        settings: str,
        each: int,
        cap: str = "1/total",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._environment = environment
        (folder / "headgate.toml").write_text(settings)
        self.gateway: Gateway | None = None
        self.key = ""
        self._each = each
        self._cap = cap

    def start(self, failpoints: str = "", cap: str = "") -> openai.OpenAI:
        self.gateway = Gateway(
            self.folder,
            "--config",
            "headgate.toml",
            "--cap",
            cap or self._cap,
            **{**self._environment, "HEADGATE_FAILPOINTS": failpoints},
        )
        self.key = self.key or self.gateway.key
        return openai.OpenAI(base_url=self.gateway.base, api_key=self.key, max_retries=2)

    def died(self) -> None:
        """Wait until a failpoint has killed the gateway."""
        assert self.gateway is not None
        assert self.gateway.process.wait(30) == -signal.SIGKILL
        self.gateway.stop()

    def check(self, paid: int) -> None:
        """Compare the books with what the lines cost; nothing is held any more."""
        assert self.gateway is not None
        data, charged = self.gateway.data, "SELECT coalesce(sum(charge), 0) FROM calls"
        latest = time.monotonic() + _BOOKED_WITHIN_S
        while figures(data, charged) < [(paid * self._each,)] and time.monotonic() < latest:
            time.sleep(0.05)
        time.sleep(0.6)  # whatever is paid a second time would come now
        assert figures(data, charged) == [(paid * self._each,)]
        assert figures(data, "SELECT count(*) FROM calls WHERE charge > 0") == [(paid,)]
        held = "SELECT coalesce(sum(amount), 0) FROM slices WHERE slot LIKE 'batch-%'"
        assert figures(data, held) == [(0,)]
        found = self.gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout
