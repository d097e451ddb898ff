"""Images by `:generateContent`: the models of Google's that paint answer with `inlineData`.

They take a shape (`aspectRatio`) and, from the third generation on, a size; one image for each call. To edit,
they are shown images beside the prompt, and know no mask.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted, UpstreamRefused
from headgate.providers.gemini.errors import reported
from headgate.providers.gemini.usage import read_usage
from headgate.providers.sources import not_json
from headgate.providers.stance import leave_out
from headgate.providers.whole import KeptAnswer
from headgate.wire.answers import NOT_JSON
from headgate.wire.checks import decode_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Call, Target, Usage

_encode = msgspec.json.encode
_SHAPES: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_NEAR: Final = 0.03  # of a shape: 1792x1024 is 16:9
_LARGE: Final = ((2816, "4K"), (1792, "2K"))  # the longest edge above which a size is asked for
_READ: Final = frozenset({"model", "stream", "partial_images"})
_ANYWAY: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,), "size": ("auto",), "quality": ("auto", "standard"), "background": ("auto", "opaque"),
    "moderation": ("auto",), "output_format": ("png",), "response_format": ("b64_json",),
    "output_compression": (100,),
}  # fmt: skip
_TUNING: Final = frozenset({"quality", "style", "moderation", "output_compression", "user", "input_fidelity"})
_VARIED: Final = "Draw a variation of this image."
_INLINE: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=\s]+)")


def image_body(call: Call, target: Target) -> dict[str, Any]:
    """Return the body of a request for an image, or for another of one that comes with it.

    Raises:
        CallerError: what they cannot do: several images, an address, a transparent background, a mask.
    """
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    prompt = _VARIED if call.operation == "image_variations" else ""
    shown: list[dict[str, Any]] = []
    for name, raw in call.members.items():
        value = decode_any(raw)
        if name in _READ or value is None or value in _ANYWAY.get(name, ()):
            continue
        if name == "prompt":
            prompt = value
        elif name == "size":
            config["imageConfig"] = _shaped(value, target.model.name)
        elif name == "images":
            shown += [_referred(each, f"images[{index}]") for index, each in enumerate(value)]
        else:
            leave_out(call, target, name, tuning=name in _TUNING or name in call.unknown)
    for file in call.files or ():
        if file.name.removesuffix("[]") == "image":
            data = b64encode(file.data).decode()
            shown.append({"inlineData": {"mimeType": file.kind or "image/png", "data": data}})
        else:
            leave_out(call, target, file.name, tuning=False)
    return {"contents": [{"role": "user", "parts": [*shown, {"text": prompt}]}], "generationConfig": config}


def _referred(image: Any, path: str) -> dict[str, Any]:
    """Return an image that a JSON body names: one that stands in its address itself.

    Raises:
        CallerError: it is elsewhere.
    """
    url = image.get("image_url") if isinstance(image, dict) else None
    found = _INLINE.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise CallerError(
            "This model takes images in the request itself: as files of a form or as `data:` URLs in base64.",
            param=path,
            code="invalid_value",
        )
    return {"inlineData": {"mimeType": found[1], "data": found[2]}}


def _shaped(size: str, model: str) -> dict[str, str]:
    width, height = map(int, size.split("x"))
    shape = min(_SHAPES, key=lambda name: abs(_ratio(name) * height / width - 1))
    if abs(_ratio(shape) * height / width - 1) > _NEAR:
        raise CallerError(
            f"Invalid value: '{size}'. This model makes images of the shapes {', '.join(_SHAPES)}.",
            param="size",
            code="invalid_value",
        )
    config = {"aspectRatio": shape}
    large = next((name for edge, name in _LARGE if max(width, height) > edge), "")
    if large and model.startswith("gemini-2"):
        raise CallerError(
            f"Invalid value: '{size}'. This model makes images of about 1024x1024 pixels.",
            param="size",
            code="invalid_value",
        )
    return {**config, "imageSize": large} if large else config


def _ratio(shape: str) -> float:
    width, height = shape.split(":")
    return int(width) / int(height)


class _Part(msgspec.Struct, gc=False, rename="camel"):
    thought: bool | None = None
    inline_data: dict[str, Any] | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Answer(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class ImageReader(KeptAnswer):
    """Read one answer; a stream that was asked for has one event. Implements `ports.Reader`."""

    __slots__ = ("_call", "_data", "_kind")

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._data: list[dict[str, Any]] = []
        self._kind = "png"

    def finish(self) -> bytes:
        """Read the answer.

        Raises:
            UpstreamInterrupted: it is none.
            UpstreamRefused: there is no image in it, and why.
        """
        try:
            answer = _decode(self._body.whole())
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if answer.error is not None:
            raise reported(answer.error)
        for counted in read_usage(answer.usage_metadata) if answer.usage_metadata is not None else ():
            self._usage = counted.usage
        candidates = answer.candidates or []
        parts = [part for found in candidates for part in (found.content and found.content.parts) or ()]
        self._data = [part.inline_data for part in parts if part.inline_data and not part.thought]
        if not self._data:
            raise _missing(answer)
        self._kind = str(self._data[0].get("mimeType")).rpartition("/")[2]
        self.done = True
        return b""

    def end(self, booked: Usage) -> bytes:
        """Return the answer; its usage is the one that was booked."""
        painted = dict(booked.more).get("output_image", booked.output_tokens)
        usage = {
            "input_tokens": booked.input_tokens,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": booked.input_tokens},
            "output_tokens": booked.output_tokens,
            "output_tokens_details": {
                "image_tokens": min(painted, booked.output_tokens),
                "text_tokens": max(0, booked.output_tokens - painted),
            },
            "total_tokens": booked.input_tokens + booked.output_tokens,
        }
        created = int.from_bytes(self._call.id[:6]) // 1000
        images = [str(image.get("data")) for image in self._data]
        common = {"output_format": self._kind, "usage": usage}
        if not self._call.stream:
            data = [{"b64_json": image} for image in images]
            return _encode({"created": created, "data": data, **common})
        done = "image_edit" if self._call.operation == "image_edits" else "image_generation"
        kind = f"{done}.completed"
        return b"".join(
            b"event: %b\ndata: %b\n\n"
            % (kind.encode(), _encode({"type": kind, "created_at": created, "b64_json": image, **common}))
            for image in images
        )

    def produced(self) -> int:
        """Return the most that an image can be, once there is one."""
        return (self._call.max_output or 0) if self._data else 0


def _missing(answer: _Answer) -> UpstreamRefused | UpstreamInterrupted:
    """Return why there is no image."""
    blocked = answer.prompt_feedback.block_reason if answer.prompt_feedback is not None else None
    reason = blocked or next(
        (each.finish_reason for each in answer.candidates or () if each.finish_reason), None
    )
    if reason is None or reason == "STOP":
        return UpstreamInterrupted(
            "The provider's answer has no image in it. Say in the prompt what to draw."
        )
    return UpstreamRefused(
        f"The provider made no image of this prompt ({reason}).",
        upstream_status=400,
        upstream_type="image_generation_user_error",
        code="moderation_blocked",
    )
