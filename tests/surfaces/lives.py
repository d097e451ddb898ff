"""One data folder, and the gateways that serve it one after another: failpoints kill them under a batch."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import openai
from tests.stores.books import figures
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway

# Providers of tests have at once what they are asked for. What proves how long is waited has its own patience.
_QUICK = MappingProxyType({"first_s": 0.02, "unclear_s": 0.1})


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
        self.said = ""  # by the one that was stopped
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
            patience=_QUICK,
            **{**self._environment, "HEADGATE_FAILPOINTS": failpoints},
        )
        self.key = self.key or self.gateway.key
        return openai_client(self.gateway.base, self.key, retries=2)

    def died(self) -> None:
        """Wait until a failpoint has killed the gateway."""
        assert self.gateway is not None
        assert self.gateway.process.wait(30) == -signal.SIGKILL
        self.gateway.stop()

    def stop(self) -> None:
        """Stop the gateway, which books all that is in its journal."""
        assert self.gateway is not None
        code, _, self.said = self.gateway.stop()
        assert code == 0, self.said

    def check(self, paid: int) -> None:
        """Stop the gateway, and compare the books with what the lines cost; nothing is held any more."""
        self.stop()
        assert self.gateway is not None
        data = self.gateway.data
        assert figures(data, "SELECT coalesce(sum(charge), 0) FROM calls") == [(paid * self._each,)]
        assert figures(data, "SELECT count(*) FROM calls WHERE charge > 0") == [(paid,)]
        held = "SELECT coalesce(sum(amount), 0) FROM slices WHERE slot LIKE 'batch-%'"
        assert figures(data, held) == [(0,)]
        found = self.gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout
