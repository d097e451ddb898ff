"""Clients of OpenAI's SDK for gateways without TLS: they read no certificates, which takes 60 ms of CPU each."""

from __future__ import annotations

import ssl
from typing import Final

import openai

_NONE: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody


class _Http(openai.DefaultHttpxClient):
    """Ends with its client, as the SDK's own does."""

    def __del__(self) -> None:
        if not self.is_closed:
            self.close()


def openai_client(base: str, key: str, retries: int = 0) -> openai.OpenAI:
    """Return a client of a gateway, which is asked again so many times."""
    return openai.OpenAI(base_url=base, api_key=key, max_retries=retries, http_client=_Http(verify=_NONE))
