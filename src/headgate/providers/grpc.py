"""What gRPC's codes are in HTTP, as google.rpc.Code maps them: some providers tell the error of a line so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

CANCELLED: Final = 1
_CODES: Final = (499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_HTTP: Final[Mapping[int, int]] = dict(enumerate(_CODES, 1))


def status_of(code: int) -> int:
    """Return the HTTP status of a code, which may be one already."""
    return _HTTP.get(code, code if 400 <= code < 600 else 500)
