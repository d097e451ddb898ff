"""The whole error tree, drawn, split by who can act.

GatewayError
├─ CallerError            400  change the request
│  ├─ AuthenticationFailed 401 present a valid key
│  ├─ PermissionRefused   403  ask for the right
│  ├─ NotFound            404  ask for something that exists
│  ├─ NoTarget            400  ask for what the model's targets are for
│  ├─ MethodRefused       405  use the method that the route has
│  ├─ RequestTimeout      408  send the request faster
│  ├─ DeadlinePassed      408  give the answer more time
│  ├─ Conflict            409  resolve the conflict first
│  ├─ Gone                410  ask for something newer
│  ├─ BodyTooLarge        413  send less
│  ├─ MediaTypeRefused    415  send the body uncompressed
│  ├─ RangeRefused        416  ask for bytes that there are
│  ├─ KeyReused           422  give another request another Idempotency-Key
│  ├─ HeadersTooLarge     431  send fewer headers
│  └─ LoopRefused         508  do not point the gateway at itself
├─ Limited                429  wait, or raise the limit
│  ├─ RateLimited              requests or tokens per minute; says when to come back
│  └─ QuotaExceeded            money; waiting does not help
├─ UpstreamError          502  the provider failed
│  ├─ UpstreamRefused          it answered 4xx: passed on with its own status
│  │  └─ UpstreamLacks         404: it does not have the model; another target may
│  ├─ UpstreamFailed      50x  it answered 500 or another server error
│  ├─ UpstreamDenied      502  it refused our credential, or our account there is empty
│  │  └─ UpstreamRegion        or the country that we ask from
│  ├─ UpstreamOverloaded  503  it answered 429 (passed on as 429), 503 or 529
│  ├─ UpstreamTimeout     504  it did not answer in time
│  ├─ UpstreamInterrupted 502  it broke off or sent what is not its wire
│  └─ WrongShape          502  its answer is not the JSON that was asked for
├─ Unavailable            503  we cannot serve now (draining, books away, journal full)
│  ├─ Crowded                   as too many calls are here; says when to come back
│  ├─ Fenced                    what this worker had is another's now, or cancelled
│  └─ StorageFull         507  the disk of files has no room
└─ Internal               500  our own fault

Each class fixes the status, OpenAI's `type` and `code`, the log level, whether another attempt of ours may
help, and whether one of the client's may (`retry`: None leaves it to the client's own rule). `CallerGone` is
not an answer: nobody is left to read one. Secrets never enter a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class GatewayError(Exception):
    """An error that a caller may see, in OpenAI's shape.

    Args:
        message: what is wrong, naming the value, and what to do.
        param: dotted path of the member at fault (`messages[0].role`), or None.
        code: OpenAI's machine-readable code, when it differs from the class's.
        headers: extra response headers (names in lower case).
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    level: ClassVar[str] = "warning"
    retry: bool | None = None  # what an SDK is told: try again, or not; None: it knows itself
    place = ""  # where it happened, `host:port`: for those who run the gateway, never for a caller
    audited = False  # the audit says already that this was refused

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.headers = headers or {}

    def at(self, place: str) -> Self:
        """Return the error with the place where it happened."""
        self.place = place
        return self

    @property
    def in_full(self) -> str:
        """Return the message for the log: with the place, where that is known."""
        return f"{self.message} (at {self.place})" if self.place else self.message

    @property
    def http_status(self) -> int:
        """Return the status of the answer; a provider's own status where it is passed on."""
        return self.status

    @property
    def error_type(self) -> str:
        """Return OpenAI's `type` for the body."""
        return self.type


class CallerError(GatewayError):
    """The request must change before it can be served."""

    status = 400
    type = "invalid_request_error"
    level = "info"


class AuthenticationFailed(CallerError):
    """No key, or one that is not valid here."""

    status = 401


class PermissionRefused(CallerError):
    """The key is valid and may not do this."""

    status = 403


class NotFound(CallerError):
    """The model, object or URL does not exist, or not for this caller."""

    status = 404


class NoTarget(CallerError):
    """The model exists, and none of its targets is for this call."""

    default_code = "no_target_for_call"


class MethodRefused(CallerError):
    """The route exists and does not have this method."""

    status = 405
    default_code = "method_not_supported"


class RequestTimeout(CallerError):
    """The request arrived too slowly."""

    status = 408


class DeadlinePassed(CallerError):
    """The answer was not there in the time that the request gives it; what was used is paid."""

    status = 408
    default_code = "deadline_exceeded"


class Conflict(CallerError):
    """The state of the object does not allow this."""

    status = 409


class Gone(CallerError):
    """It was here, and is kept no longer."""

    status = 410
    default_code = "expired"


class BodyTooLarge(CallerError):
    """The body is above the limit of its route."""

    status = 413


class MediaTypeRefused(CallerError):
    """The body comes in a form that is not read here."""

    status = 415


class RangeRefused(CallerError):
    """The range of bytes is behind the end."""

    status = 416
    default_code = "range_not_satisfiable"


class KeyReused(CallerError):
    """The same Idempotency-Key was sent with another request."""

    status = 422
    default_code = "idempotency_key_reused"


class HeadersTooLarge(CallerError):
    """The request line or the headers are above the limit."""

    status = 431


class LoopRefused(CallerError):
    """The request has already passed through this gateway."""

    status = 508
    retry = False


class Limited(GatewayError):
    """A limit of ours holds the call back."""

    status = 429
    level = "info"


class RateLimited(Limited):
    """Requests or tokens per minute are used up.

    Args:
        message: OpenAI's sentence.
        kind: `requests` or `tokens`, which is OpenAI's `type` here.
        retry_after_s: seconds until the call would fit; None when it never will.
    """

    default_code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        retry_after_s: float | None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, headers=headers)
        self.kind = kind
        self.retry_after_s = retry_after_s

    @property
    def error_type(self) -> str:
        """Return `requests` or `tokens`."""
        return self.kind


class QuotaExceeded(Limited):
    """The money does not cover what the call may cost; a retry cannot help."""

    type = "insufficient_quota"
    default_code = "insufficient_quota"
    retry = False


class UpstreamError(GatewayError):
    """The provider failed and no answer came of it."""

    status = 502
    another_target: ClassVar[bool] = True  # another one may do better,
    same_target: bool = True  # and so may the same one, a little later
    not_processed: ClassVar[bool] = False  # it surely never saw the request: one fresh try is safe
    retry_after_s: float | None = None  # what the provider asks for
    kind: str = "interrupted"  # what it is counted as; see `vitals`


class UpstreamRefused(UpstreamError):
    """The provider refused the request itself: its status, type, code and param are passed on."""

    level = "info"
    kind = "refused"
    another_target = same_target = False

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int,
        upstream_type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.upstream_status = upstream_status
        self.upstream_type = upstream_type

    @property
    def http_status(self) -> int:
        """Return the provider's own status."""
        return self.upstream_status

    @property
    def error_type(self) -> str:
        """Return the provider's own type."""
        return self.upstream_type


class UpstreamLacks(UpstreamRefused):
    """The provider does not have the model (404): another target may, else its answer is passed on."""

    another_target = True


class UpstreamFailed(UpstreamError):
    """The provider answered with a server error of its own: 500 to 504 are passed on as they are."""

    kind = "failed"

    def __init__(self, message: str, *, upstream_status: int) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status

    @property
    def http_status(self) -> int:
        """Return the provider's status where a client knows it, else 502."""
        return self.upstream_status if self.upstream_status in {500, 502, 503, 504} else 502


class UpstreamDenied(UpstreamError):
    """The provider refused our own credential, or our account there has no money: nothing for a caller."""

    default_code = "provider_denied"
    kind = "denied"
    level = "error"
    same_target = False
    retry = False


class UpstreamRegion(UpstreamDenied):
    """The provider does not serve the country that we ask from: another one may."""

    default_code = "unsupported_country_region_territory"
    kind = "region"


class UpstreamOverloaded(UpstreamError):
    """The provider limits us (429) or is overloaded (503, 529); its Retry-After is passed on."""

    status = 503
    type = "service_unavailable_error"
    default_code = "server_is_overloaded"

    def __init__(self, message: str, *, retry_after_s: float | None = None, limited_by: str = "") -> None:
        super().__init__(message, code="rate_limit_exceeded" if limited_by else None)
        self.retry_after_s = retry_after_s
        self.limited_by = limited_by  # `requests` or `tokens` for a 429, else empty
        self.kind = "limited" if limited_by else "overloaded"

    @property
    def http_status(self) -> int:
        """Return 429 where the provider limits us, 503 where it is overloaded."""
        return 429 if self.limited_by else 503

    @property
    def error_type(self) -> str:
        """Return what limits us, as OpenAI names it."""
        return self.limited_by or self.type


class UpstreamTimeout(UpstreamError):
    """The provider did not answer within a deadline. Whoever was waited for that long is not asked again."""

    status = 504
    default_code = "upstream_timeout"
    kind = "timeout"
    same_target = False


class UpstreamInterrupted(UpstreamError):
    """The provider broke off, or sent what is not its wire."""

    default_code = "upstream_interrupted"


class OrderUnclear(UpstreamInterrupted):
    """The provider broke off after it was asked for a job: it may have taken it, so it is not asked again."""

    same_target = False


class WrongShape(UpstreamError):
    """The answer is not of the JSON schema that was asked for; it was asked for twice, so a retry costs anew.

    Args:
        message: for the caller.
        text: the answer.
        problems: what is wrong with it.
    """

    default_code = "invalid_structured_output"
    kind = "wrong_shape"
    another_target = False
    retry = False

    def __init__(self, message: str, text: str, problems: Sequence[str]) -> None:
        super().__init__(message, param="response_format")
        self.text = text
        self.problems = tuple(problems)


class Unavailable(GatewayError):
    """This gateway cannot serve the call now."""

    status = 503
    type = "service_unavailable_error"
    level = "error"

    def __init__(self, message: str, *, retry_after_s: float | None = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Crowded(Unavailable):
    """Too many calls are here already, or wait for the same provider."""

    default_code = "server_is_overloaded"
    level = "warning"


class Fenced(Unavailable):
    """What this worker had is another's now, or is no longer wanted: it does nothing more with it."""


class StorageFull(Unavailable):
    """There is no room where files are kept."""

    status = 507
    default_code = "insufficient_storage"
    retry = False

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=None)


class Internal(GatewayError):
    """Our own fault; the details are in the log under the request id."""

    default_code = "internal_error"
    level = "error"


class CallerGone(Exception):
    """Nobody is left to read the answer."""


class Outrun(Exception):
    """Another attempt of the same call has answered first."""
