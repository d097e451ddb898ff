"""The faults that the simulator produces on request, in one table.

They are what providers really do: refusals with their own status and body, connections that break,
bodies that end early or are not the API's wire, and counts that cannot be true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    With a `status` the provider refuses with that answer. Without one, what happens is said in
    `does` and done in `breakage` (transport and body) or `answers` (content).
    """

    name: str
    does: str
    status: int = 0
    type: str = ""
    code: str | None = None
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    amount: int = 0  # the default of the number that may follow the name; 0: takes none
    html: bool = False


_HTML = "text/html"
_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_RETRY = (("retry-after", "1"), ("retry-after-ms", "1000"))
_ALL = (
    Fault(
        "400", "refuses the request", 400, _REQUEST, "invalid_value",
        "Invalid value: the simulator was asked for a 400.",
    ),
    Fault(
        "401", "refuses the provider key", 401, _REQUEST, "invalid_api_key",
        "Incorrect API key provided: sk-si***ated. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
    ),
    Fault(
        "402", "says that the provider account is empty", 402, "insufficient_quota",
        "credit_balance_exhausted",
        "Your credit balance is exhausted.",
    ),
    Fault(
        "403", "refuses the region", 403, _REQUEST, "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    Fault(
        "404", "does not know the model", 404, _REQUEST, "model_not_found",
        "The model `sim-404` does not exist or you do not have access to it.",
    ),
    Fault("408", "says that the request took too long", 408, _REQUEST, None, "Request timed out."),
    Fault(
        "409", "reports a conflict", 409, _REQUEST, "conversation_locked",
        "Another process is using this conversation.",
    ),
    Fault("413", "finds the request too large", 413, _REQUEST, None, "Request body is too large."),
    Fault("422", "cannot process the request", 422, _REQUEST, None, "Unprocessable entity."),
    Fault(
        "429", "limits requests per minute, with Retry-After", 429, "requests", "rate_limit_exceeded",
        "Rate limit reached for simulator in organization org-simulator on requests per min (RPM): "
        "Limit 3, Used 3, "
        "Requested 1. Please try again in 1s.", _RETRY,
    ),
    Fault(
        "429-tokens", "limits tokens per minute, with Retry-After", 429, "tokens", "rate_limit_exceeded",
        "Rate limit reached for simulator in organization org-simulator on tokens per min (TPM): "
        "Limit 50000, Used 49990, "
        "Requested 300. Please try again in 1s.", _RETRY,
    ),
    Fault(
        "429-quota", "says that the provider account has no money", 429, "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    Fault(
        "429-absurd", "limits requests with a Retry-After of 30 years", 429, "requests",
        "rate_limit_exceeded",
        "Rate limit reached for simulator on requests per min (RPM).", (("retry-after", "1000000000"),),
    ),
    Fault(
        "500", "fails inside", 500, _SERVER, None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    Fault("502", "answers with a proxy's HTML page", 502, headers=(("content-type", _HTML),), html=True),
    Fault(
        "503", "is overloaded, with Retry-After", 503, "service_unavailable_error", "server_is_overloaded",
        "The server is overloaded or not ready yet.", _RETRY,
    ),
    Fault(
        "504", "answers with a proxy's HTML page for a timeout", 504,
        headers=(("content-type", _HTML),), html=True,
    ),
    Fault("529", "is overloaded, by Anthropic's status", 529, "overloaded_error", None, "Overloaded"),
    Fault(
        "302", "redirects to an address inside", 302,
        headers=(("location", "http://169.254.169.254/latest/"),), html=True,
    ),
    Fault("refused", "refuses the connection"),
    Fault("unreachable", "lets no connection come about until `connect_s` has passed"),
    Fault("reset", "closes the connection before it answers"),
    Fault("slow", "waits before it answers (milliseconds)", amount=2_000),
    Fault("hang", "never answers"),
    Fault("stall", "falls silent half-way and keeps the connection open"),
    Fault("cut", "breaks the connection half-way"),
    Fault("reset-body", "breaks the connection right after the head"),
    Fault("early-end", "ends half-way as if all were said: no [DONE], half a JSON body"),
    Fault("no-done", "leaves out the final [DONE] of a stream"),
    Fault("done-twice", "sends data after [DONE]"),
    Fault("drip", "sends a few bytes at a time (milliseconds between them)", amount=20),
    Fault("split", "cuts its bytes anywhere, also within characters"),
    Fault("crlf", "ends lines with CRLF and sends comments between events"),
    Fault("garbage", "sends broken JSON half-way"),
    Fault("html", "answers 200 with an HTML page"),
    Fault("empty-body", "answers 200 with nothing"),
    Fault("error-first", "answers 200 and reports an error in the first event"),
    Fault("error-late", "reports an error half-way through a stream"),
    Fault("nousage", "never reports usage"),
    Fault("usage-zero", "reports no tokens at all"),
    Fault("usage-negative", "reports a negative count"),
    Fault("usage-huge", "reports 10^18 tokens"),
    Fault("usage-falling", "reports a count that falls from event to event of a stream"),
    Fault("empty", "answers with an empty text"),
    Fault("refusal", "declines: `refusal` instead of `content`"),
    Fault("filter", "stops half-way with finish_reason content_filter"),
    Fault("long", "answers with so many tokens", amount=500),
    Fault("echo", "answers with the prompt (no fault: for tests)"),
)  # fmt: skip
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
