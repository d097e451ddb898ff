"""Videos as OpenAI's API has them: what is asked for, and the object that a job is shown as.

Source: `CreateVideoMultipartBody`, `CreateVideoJsonBody` and `VideoResource` of OpenAI's OpenAPI file of
2026-08-21. Its own models ended on 2026-09-24; sizes and lengths here are those of the makers that live.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError
from headgate.values import Book, Prices, VideoStatus, WallMicros
from headgate.wire.answers import NOT_JSON
from headgate.wire.files import no_such_file
from headgate.wire.forms import is_form, read_form
from headgate.wire.references import is_ours, picture_reference

if TYPE_CHECKING:
    from headgate.values import Call

_SIZE = re.compile(r"([1-9]\d{2,3})x([1-9]\d{2,3})")
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,(.*)", re.DOTALL)
_LONGEST_S = 60
_LONGEST_PROMPT = 32_000
_FOUR_K = 2_160
_US = 1_000_000
STORED = "input_reference.file_id"
_MEMBERS = ("prompt", "model", "seconds", "size", "input_reference")


class Picture(msgspec.Struct, frozen=True):
    """An image that a video begins with."""

    kind: str  # its media type
    data: bytes


class VideoOrder(msgspec.Struct, frozen=True):
    """What is asked for."""

    model: str
    prompt: str
    seconds: int
    width: int
    height: int
    picture: Picture | None = None
    stored: str = ""  # the file of ours that is its picture, which is not read yet

    @property
    def size(self) -> str:
        """Return the size as OpenAI writes it."""
        return f"{self.width}x{self.height}"

    @property
    def resolution(self) -> str:
        """Return the size as prices are told: 720p, 1080p, 4k."""
        lines = min(self.width, self.height)
        return "4k" if lines == _FOUR_K else f"{lines}p"

    @property
    def unit(self) -> str:
        """Return the unit that it is priced in: a second of this resolution."""
        return f"second:{self.resolution}"


class VideoJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A video that is being made, or was: everything that a later process needs to know."""

    id: str
    call: bytes  # the id of the call that it is in the books
    slot: int
    account: int
    project: int
    key: int
    member: int
    book: Book
    model: str  # as the caller named it
    provider: str
    upstream: str
    prompt: str
    seconds: int
    size: str
    unit: str
    created_at: WallMicros
    prepaid: bool = False
    prices: Prices | None = None  # fixed when it was ordered
    costs: Prices | None = None
    operation: str = ""  # the provider's name of it; empty: it has not taken it
    status: VideoStatus = "queued"
    progress: int = 0
    source: str = ""  # where the provider keeps it
    completed_at: WallMicros = 0
    expires_at: WallMicros = 0
    error_code: str = ""
    error_message: str = ""
    deleted: bool = False
    batch: str = ""  # of one of whose lines it is: its money is that batch's, whose worker asks for it

    @property
    def open(self) -> bool:
        """Say whether it is still being made."""
        return self.status in {"queued", "in_progress"}

    def shown(self) -> dict[str, Any]:
        """Return OpenAI's object."""
        error = {"code": self.error_code, "message": self.error_message} if self.status == "failed" else None
        return {
            "id": self.id,
            "object": "video",
            "created_at": self.created_at // _US,
            "status": self.status,
            "completed_at": self.completed_at // _US or None,
            "error": error,
            "expires_at": self.expires_at // _US or None,
            "model": self.model,
            "progress": self.progress,
            "prompt": self.prompt,
            "remixed_from_video_id": None,
            "seconds": str(self.seconds),
            "size": self.size,
        }


def read_order(content_type: bytes, body: bytes) -> VideoOrder:
    """Return what a request asks for, whether it is JSON or a form.

    Raises:
        CallerError: what is wrong with it, in OpenAI's words.
    """
    given = _form(content_type, body) if is_form(content_type) else _json(body)
    for name in given:
        if name not in _MEMBERS:
            raise CallerError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    width, height = _size(given.get("size"))
    reference = given.get("input_reference")
    return VideoOrder(
        _text(given, "model", 200),
        _text(given, "prompt", _LONGEST_PROMPT),
        _seconds(given.get("seconds")),
        width,
        height,
        None if _stored(reference) else _picture(reference),
        _stored(reference),
    )


def weigh_order(order: VideoOrder, call: Call) -> None:
    """Note on a call what an order can use."""
    call.model = order.model
    call.max_output = 0
    call.units = ((order.unit, order.seconds),)


def take_order(body: bytes, call: Call) -> None:
    """Fill a call from the JSON of an order. Raises `CallerError`."""
    weigh_order(read_order(b"application/json", body), call)


def _stored(reference: Any) -> str:
    """Return the name of the file that a reference names; empty where it names none."""
    name = reference.get("file_id") if isinstance(reference, dict) else None
    if name is None:
        return ""
    picture_reference("input_reference", reference)
    if not is_ours(name):
        raise no_such_file(name, STORED)
    return str(name)


def _form(content_type: bytes, body: bytes) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, part in read_form(content_type, body).items():
        if part.filename or part.kind.startswith("image/"):
            given[name] = Picture(part.kind or "application/octet-stream", bytes(part.data))
        elif name.startswith("input_reference["):
            given.setdefault("input_reference", {})[name[16:].rstrip("]")] = part.text()
        else:
            given[name] = part.text()
    return given


def _json(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except NOT_JSON as fault:
        raise CallerError(f"We could not parse the JSON body of your request: {fault}.") from None


def _text(given: dict[str, Any], name: str, longest: int) -> str:
    value = given.get(name)
    if value is None:
        raise CallerError(
            f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
        )
    if not isinstance(value, str):
        raise CallerError(f"Invalid type for '{name}': expected a string.", param=name, code="invalid_type")
    if not 0 < len(value) <= longest:
        raise CallerError(
            f"Invalid '{name}': it has {len(value)} characters, and must have 1 to {longest}.",
            param=name,
            code="invalid_value",
        )
    return value


def _seconds(value: Any) -> int:
    text = str(value) if value is not None else "4"
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= _LONGEST_S:
        raise CallerError(
            f"Invalid value: {text[:40]!r}. 'seconds' is a whole number from 1 to {_LONGEST_S}.",
            param="seconds",
            code="invalid_value",
        )
    return int(text)


def _size(value: Any) -> tuple[int, int]:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if value is None:
        return 720, 1280
    if found is None:
        raise CallerError(
            f"Invalid value: {str(value)[:40]!r}. 'size' is WIDTHxHEIGHT, such as '1280x720' or '720x1280'.",
            param="size",
            code="invalid_value",
        )
    return int(found[1]), int(found[2])


def _picture(value: Any) -> Picture | None:
    if value is None or isinstance(value, Picture):
        if isinstance(value, Picture) and not value.kind.startswith("image/"):
            raise _no_picture(f"it is {value.kind[:60]!r}")
        return value
    url = value.get("image_url") if isinstance(value, dict) else None
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise _no_picture(
            "send it in a form, or {'file_id': 'file-...'}, or {'image_url': 'data:image/png;base64,...'}"
        )
    try:
        return Picture(found[1], base64.b64decode(found[2], validate=True))
    except binascii.Error:
        raise _no_picture("its base64 is broken") from None


def _no_picture(why: str) -> CallerError:
    return CallerError(
        f"Invalid 'input_reference': it must be an image; {why}.",
        param="input_reference",
        code="invalid_value",
    )
