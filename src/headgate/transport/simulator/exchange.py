"""The simulator as a transport: an upstream in this process, with the manners of one on the network."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerGone, UpstreamError, UpstreamInterrupted, UpstreamTimeout
from headgate.ports import Head
from headgate.transport.simulator.breakage import broken, refuse
from headgate.transport.simulator.chat import Stamp, chat_reply
from headgate.transport.simulator.completions import completion_reply
from headgate.transport.simulator.counting import ModelTokens
from headgate.transport.simulator.embeddings import embeddings_reply
from headgate.transport.simulator.reply import Headers, Reply, error_reply, letters
from headgate.transport.simulator.wishes import HEADER, UnknownWish, fault_of_model, read_wish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from headgate.money.tokens import Tokenizers
    from headgate.ports import Clock, Request
    from headgate.transport.simulator.reply import Step
    from headgate.transport.simulator.wishes import Wish
    from headgate.values import Deadlines, Target

_READ_BYTES = 16 * 1024  # as much as one read returns when nothing paces the answer
_REQUEST_ERROR = "invalid_request_error"
_Answers = "Callable[[dict[str, Any], Wish, ModelTokens, Stamp], Awaitable[Reply]]"
_PATHS: Mapping[str, Any] = {
    "/chat/completions": chat_reply,
    "/completions": completion_reply,
    "/embeddings": embeddings_reply,
}
