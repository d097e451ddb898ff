"""Clients of OpenAI's SDK for gateways without TLS: they read no certificates, which takes 60 ms of CPU each."""

from __future__ import annotations

import ssl
import weakref
from typing import Final

import openai

_NONE: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody


def openai_client(base: str, key: str, retries: int = 0) -> openai.OpenAI:
    """Return a client of a gateway, which is asked again so many times.

    Its connections end with it: before the collector comes to them, which would find sockets that nobody closed
    and say so in the midst of another test.
    """
    http = openai.DefaultHttpxClient(verify=_NONE)
    made = openai.OpenAI(base_url=base, api_key=key, max_retries=retries, http_client=http)
    weakref.finalize(made, http.close)
    return made
