"""AWS's Signature Version 4, by botocore's own signer. Imported where a request is signed and nowhere else.

A request is good for five minutes from its time, and for its body, its path and the headers that are signed.
Pure: the keys and the time are given.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

if TYPE_CHECKING:
    from headgate.credentials import AccessKeys
    from headgate.values import Pairs, WallMicros

_SERVICE = "bedrock"


class _Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer, with the time of the caller's clock."""

    def sign(self, request: AWSRequest, stamp: str) -> None:
        """Add the headers of a signature; the steps are `SigV4Auth.add_auth`'s."""
        request.context["timestamp"] = stamp
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


def signature(url: str, headers: Pairs, body: bytes, keys: AccessKeys, region: str, at: WallMicros) -> Pairs:
    """Return the headers that sign a POST."""
    given = {name: value for name, value in headers if name == "content-type" or name.startswith("x-amz-")}
    request = AWSRequest(method="POST", url=url, headers=given, data=body)
    signer = _Signer(ReadOnlyCredentials(keys.id, keys.secret, keys.session or None), _SERVICE, region)
    signer.sign(request, datetime.fromtimestamp(at // 1_000_000, UTC).strftime(SIGV4_TIMESTAMP))
    return tuple((name.lower(), value) for name, value in request.headers.items() if name not in given)
