"""A small client of a running gateway, on the standard library: what `chat` and `doctor` speak."""

from __future__ import annotations

import http.client
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from headgate.cli.exits import Failed, Unreachable, Unusable
from headgate.program import advise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_TIMEOUT_S: Final = 600.0
_QUICK_S: Final = 5.0
_PLAIN: Final[Mapping[str, str]] = {}
LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Turn(msgspec.Struct):
    """One answer as it came: filled while its text is read."""

    text: str = ""
    request_id: str = ""
    simulated: bool = False
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the input
    finish: str = ""
    complete: bool = False  # the stream ended as it should


class Refused(Failed):
    """The gateway answered with an error."""

    def __init__(self, status: int, message: str, code: str | None) -> None:
        super().__init__(message, code or f"http_{status}")
        self.status = status


class Client:
    """Speak to one gateway with one key.

    Args:
        url: of the gateway, with or without `/v1`.
        key: a Headgate key.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        parts, port = _address(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unusable(f"{url!r} is not the address of a gateway, such as http://127.0.0.1:8787.")
        self.host = parts.hostname
        self._port = port
        self._path = parts.path
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._key = key

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and decoded body of a GET.

        Raises:
            Unreachable: nobody answers there.
        """
        with self.asked("GET", path, None, _QUICK_S) as response:
            return response.status, _decoded(response.read())

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the decoded answer to a request.

        Raises:
            Unreachable: nobody answers there.
            Refused: the gateway answered with an error.
        """
        with self.asked(method, path, body, _TIMEOUT_S) as response:
            content = _decoded(response.read())
            if response.status != http.client.OK:
                raise _refused(response.status, content)
            return content

    def stream(self, body: Mapping[str, Any], turn: Turn) -> Iterator[str]:
        """Send a chat request; yield its text as it comes, and fill the turn.

        Raises:
            Unreachable: nobody answers there, or the answer broke off.
            Refused: the gateway answered with an error, also in the middle of the stream.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self.asked("POST", "/v1/chat/completions", asked, _TIMEOUT_S) as response:
            turn.request_id = response.headers.get("x-request-id", "")
            turn.simulated = response.headers.get("x-headgate-simulated") == "true"
            if response.status != http.client.OK:
                raise _refused(response.status, _decoded(response.read()))
            yield from _events(response, turn)

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        content: Iterable[bytes] | None = None,
        headers: Mapping[str, str] = _PLAIN,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request with a body in pieces; give the answer while the block reads it.

        Raises:
            Unreachable: nobody answers there, or the answer broke off.
            Refused: the gateway answered with an error.
        """
        with self.sent(method, path, content, headers) as response:
            if response.status >= http.client.BAD_REQUEST:
                raise _refused(response.status, _decoded(response.read()))
            yield response

    @contextmanager
    def asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout_s: float = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; give the answer while the block reads it. Raises `Unreachable`."""
        content = None if body is None else msgspec.json.encode(body)
        with self.sent(method, path, content, {"content-type": "application/json"}, timeout_s) as response:
            yield response

    @contextmanager
    def sent(
        self,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        timeout_s: float = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request as it is, with the key; give the answer while the block reads it."""
        with closing(self._kind(self.host, self._port, timeout=timeout_s)) as connection:
            try:
                head = {**headers, "authorization": f"Bearer {self._key}"}
                connection.request(method, self._path + path, content, head)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as fault:
                raise Unreachable(
                    f"No gateway answers at {self.url} ({_said(fault)}). Start one with `{advise('serve')}`, "
                    "or name another with --url."
                ) from fault
            with response:
                try:
                    yield response
                except (OSError, http.client.HTTPException) as fault:
                    raise Unreachable(f"The answer of {self.url} broke off: {_said(fault)}.") from fault


def _address(url: str) -> tuple[SplitResult, int | None]:
    """Return the parts of an address with its port.

    Raises:
        Unusable: it cannot be read.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise Unusable(f"{url!r} is not the address of a gateway: {fault}.") from fault
    return parts, port


def _said(fault: Exception) -> str:
    return str(fault) or type(fault).__name__


def _events(response: http.client.HTTPResponse, turn: Turn) -> Iterator[str]:
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            turn.complete = True
            return
        chunk = _decoded(data)
        if "error" in chunk:
            raise _refused(response.status, chunk)
        yield from _delta(chunk, turn)
    raise Unreachable("The answer broke off before its end.")


def _delta(chunk: Mapping[str, Any], turn: Turn) -> Iterator[str]:
    turn.model = chunk.get("model") or turn.model
    if usage := chunk.get("usage"):
        turn.input_tokens, turn.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        turn.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    choices: Sequence[Mapping[str, Any]] = chunk.get("choices") or ()
    for choice in choices:
        turn.finish = choice.get("finish_reason") or turn.finish
        if text := (choice.get("delta") or {}).get("content"):
            turn.text += text
            yield text


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        shown = content[:200].decode("utf-8", "replace")
        raise Unreachable(f"This is not a gateway's answer: {shown!r}.") from fault


def _refused(status: int, body: Any) -> Refused:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return Refused(status, f"The gateway answered {status}.", None)
    return Refused(status, f"{error.get('message')} (HTTP {status})", error.get("code"))
