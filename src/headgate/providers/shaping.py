"""The JSON that an answer shall be, where the target does not see to it: asked for in words, and checked.

===========  ===============================================  ================================================
a target     is sent                                          its answer
===========  ===============================================  ================================================
`enforced`   `response_format` as it came                     passes as it comes, and is checked at its end
`tried`      `response_format`, or what a codec makes of it   is held back until it is whole, and checked
`json`       `json_object`, and the schema in words           the same
`none`       the JSON that is wanted in words                 the same
===========  ===============================================  ================================================

A wrong answer that was held back is asked for once more, with what is wrong with it. Both attempts are in the
books: the first is the house's cost, like any attempt that came to nothing; the hold covers what it adds to
the second. Then the call fails. An answer that was cut by its limit, that refuses, or that calls a tool,
passes as OpenAI lets it pass. A code fence around the JSON is taken off.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted, WrongShape
from headgate.providers.frames import data_of
from headgate.providers.parts import unsupported
from headgate.providers.registry import SCHEMAS
from headgate.values import Note, Usage, Wrong
from headgate.wire.checks import decode_any
from headgate.wire.jsonschema import Schema, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.ports import Reader, Request
    from headgate.providers.codec import Codec
    from headgate.values import Call, Schemas, Target

_encode = msgspec.json.encode
_QUOTED: Final = 16_000  # bytes of a wrong answer that are shown to its model
_SPARE: Final = 20_480  # tokens: that, what is wrong with it, and the words around both
_JSON_OBJECT: Final = msgspec.Raw(b'{"type":"json_object"}')
_ALONE: Final = "Answer with one JSON {kind} alone: no other text before or after it, and no code fence."
_PATH: Final = "response_format.json_schema.schema"
_ENDED_WELL: Final = frozenset({"stop", None})
_FENCE: Final = re.compile(r"```[A-Za-z]{0,10}\s*\n(.*)\n```", re.DOTALL)
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


def prepare(call: Call, targets: Sequence[Target]) -> None:
    """Note what the shape of a call may add to its input.

    Raises:
        CallerError: a target that does not enforce the schema may be asked, and we cannot either.
    """
    shape = call.shape
    assert shape is not None
    if all(_support(call, target) == "enforced" for target in targets):
        return
    _schema(shape.wanted)
    shape.spare_input = _SPARE


def encode(codec: Codec, call: Call, target: Target) -> Request:
    """Return the request for a call whose answer shall be JSON.

    Raises:
        CallerError: the target cannot do what the request asks for.
    """
    shape = call.shape
    assert shape is not None
    support = _support(call, target)
    if support == "enforced":
        return codec.encode(call, target)
    given = call.members
    call.members = dict(given)
    try:
        if support in {"json", "none"}:
            _ask_in_words(call, target, support)
        if shape.wrong is not None:
            _ask_again(call, shape.wrong)
        return _encode_tried(codec, call, target)
    finally:
        call.members = given


def checked(reader: Reader, call: Call, target: Target) -> Reader:
    """Return a reader whose answer does not end well unless it is as it should be."""
    if _support(call, target) != "enforced":
        return HeldReader(reader, call)
    assert call.shape is not None
    try:
        _schema(call.shape.wanted)
    except CallerError:  # which we cannot check: its maker does
        return reader
    return WatchedReader(reader, call)


def asks_again(call: Call, error: WrongShape) -> bool:
    """Say whether a wrong answer is asked for once more, and note why."""
    shape = call.shape
    if shape is None or shape.wrong is not None or not shape.spare_input:
        return False
    shape.wrong = Wrong(error.text, error.problems)
    return True


def _support(call: Call, target: Target) -> Schemas:
    keeps = SCHEMAS.get(target.host.kind)
    return keeps(call, target) if keeps is not None else "tried"


def _schema(wanted: Mapping[str, Any]) -> Schema:
    """Return the schema of an answer, which for `json_object` is any object.

    Raises:
        CallerError: we cannot enforce it.
    """
    asked = wanted["json_schema"].get("schema") if wanted["type"] == "json_schema" else None
    try:
        return Schema(asked if asked is not None else {"type": "object"})
    except SchemaError as fault:
        where = f"{_PATH}.{fault.path}" if fault.path else _PATH
        raise CallerError(
            f"Invalid schema for response_format: {fault}. This model does not keep to a schema by itself, "
            "and the gateway enforces only what it can check.",
            param=where,
            code="unsupported_parameter",
        ) from fault


def _encode_tried(codec: Codec, call: Call, target: Target) -> Request:
    """Return the request; what of a strict schema the wire cannot say is left out, for it is checked here."""
    noted = len(call.notes)
    try:
        return codec.encode(call, target)
    except CallerError:
        raw = call.members.get("response_format")
        wanted = decode_any(raw) if raw is not None else {}
        schema = wanted.get("json_schema") or {}
        if not schema.pop("strict", False):
            raise
        del call.notes[noted:]
        call.members["response_format"] = msgspec.Raw(_encode(wanted))
        return codec.encode(call, target)


def _ask_in_words(call: Call, target: Target, support: Schemas) -> None:
    """Say what is wanted in a message of the system, as far as the target takes no other word.

    Raises:
        CallerError: the model is set to be strict.
    """
    shape = call.shape
    assert shape is not None
    wanted, is_schema = shape.wanted, shape.wanted["type"] == "json_schema"
    if support == "json" and not is_schema:
        return
    if target.parameters == "strict":
        raise unsupported("response_format")
    if support == "json":
        call.members["response_format"] = _JSON_OBJECT
    else:
        del call.members["response_format"]
    words = _ALONE.format(kind="value" if is_schema else "object")
    if is_schema:
        schema = _encode(wanted["json_schema"].get("schema")).decode()
        words += f" It must be valid by this JSON Schema:\n{schema}"
        if wanted["json_schema"].get("description"):
            words += f"\n{wanted['json_schema']['description']}"
    messages = decode_any(call.members["messages"])
    begin = next((at for at, row in enumerate(messages) if row["role"] not in {"system", "developer"}), 0)
    _set_messages(call, [*messages[:begin], {"role": "system", "content": words}, *messages[begin:]])
    call.notes.append(Note("x-headgate-emulated", "response_format"))


def _ask_again(call: Call, wrong: Wrong) -> None:
    """Show a model its answer, and what is wrong with it."""
    shown = wrong.text.encode("utf-8", "replace")[:_QUOTED].decode("utf-8", "ignore")
    told = "\n".join(f"- {problem[:200]}" for problem in wrong.problems)
    again = (
        f"That answer is not the JSON that was asked for:\n{told}\nAnswer again, with the right JSON alone."
    )
    messages = decode_any(call.members["messages"])
    said = [{"role": "assistant", "content": shown or "(nothing)"}, {"role": "user", "content": again}]
    _set_messages(call, [*messages, *said])
    call.notes.append(Note("x-headgate-repaired", "response_format"))


def _set_messages(call: Call, messages: list[dict[str, Any]]) -> None:
    call.members["messages"] = msgspec.Raw(_encode(messages))


class _Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


class _Said:
    """One choice, put together."""

    __slots__ = ("ended", "other", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.other = False  # it refuses, or calls a tool
        self.ended: str | None = None

    def add(self, choice: _Choice) -> None:
        """Take in a message, or a delta."""
        self.ended = choice.finish_reason or self.ended
        message = choice.message or choice.delta
        if message is None:
            return
        if isinstance(message.content, str):
            self.pieces.append(message.content)
        self.other = self.other or bool(message.refusal or message.tool_calls or message.function_call)

    def text(self) -> str:
        """Return all that was said."""
        return "".join(self.pieces)

    def counts(self) -> bool:
        """Say whether it promises the JSON that was asked for."""
        return not self.other and self.ended in _ENDED_WELL


class HeldReader:
    """A reader whose answer is held back until it is known to be right. Implements `ports.Reader`.

    Raises:
        WrongShape: by `finish`: it is not.
    """

    __slots__ = ("_call", "_inner", "_kept", "_size", "_unfenced", "done")
    holds: ClassVar = True  # nothing is shown before it is known to be right

    def __init__(self, inner: Reader, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._kept: list[bytes] = []
        self._size = 0
        self._unfenced: dict[int, str] = {}  # by choice: the text without the fence around it
        self.done = False

    @property
    def awaits_count(self) -> bool:
        """Say whether the text is complete and only its count is still to come."""
        return self._inner.awaits_count

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body; nothing is passed on yet."""
        self._keep(self._inner.feed(data))
        self.done = self._inner.done
        return b""

    def finish(self) -> bytes:
        """Return the frames of an answer that is right.

        Raises:
            WrongShape: it is not.
        """
        self._keep(self._inner.finish())
        self._judge()
        whole = b"".join(self._kept)
        return self._rewritten(whole) if whole and self._unfenced else whole

    def end(self, booked: Usage) -> bytes:
        """Return the last bytes."""
        last = self._inner.end(booked)
        return last if self._call.stream or not self._unfenced else self._unwrapped(last)

    def usage(self) -> Usage | None:
        """Return the provider's own count."""
        return self._inner.usage()

    def produced(self) -> int:
        """Return a running count of output tokens."""
        return self._inner.produced()

    def text(self) -> str:
        """Return the text so far."""
        return self._inner.text()

    def _keep(self, frames: bytes) -> None:
        if frames:
            self._size += len(frames)
            if self._size > MAX_ANSWER_BYTES:
                raise UpstreamInterrupted("The provider's answer is longer than 64 MB.")
            self._kept.append(frames)

    def _judge(self) -> None:
        shape = self._call.shape
        assert shape is not None
        schema = _schema(shape.wanted)
        for index, said in sorted(self._choices().items()):
            if not said.counts():
                continue
            text = said.text()
            problems = _problems(schema, text)
            inside = _inside_fence(text) if problems and self.holds else None
            if inside is not None and not (problems := _problems(schema, inside) or []):
                self._unfenced[index] = inside
            if problems:
                times = "twice and did not" if shape.wrong is not None else "and did not"
                raise WrongShape(
                    f"The model was asked {times} answer with the JSON that `response_format` describes: "
                    + "; ".join(problems)[:600],
                    text,
                    problems,
                )

    def _choices(self) -> dict[int, _Said]:
        found: dict[int, _Said] = {}
        if self._call.stream:
            frames = b"".join(self._kept).split(b"\n\n")
            bodies = [data for frame in frames if (data := data_of(frame))]
        else:
            bodies = [self._inner.end(self._inner.usage() or Usage())]
        for body in bodies:
            for choice in _decode(body).choices:
                found.setdefault(choice.index, _Said()).add(choice)
        return found

    def _rewritten(self, whole: bytes) -> bytes:
        """Return frames whose choices say the text without its fence, in their first delta with text."""
        out, left = [], dict(self._unfenced)
        for frame in filter(None, whole.split(b"\n\n")):
            chunk = decode_any(data_of(frame) or b"{}")
            for choice in chunk.get("choices", ()):
                delta = choice.get("delta", {})
                if choice["index"] in self._unfenced and delta.get("content"):
                    delta["content"] = left.pop(choice["index"], "")
            out.append(b"data: %b\n\n" % _encode(chunk))
        return b"".join(out)

    def _unwrapped(self, body: bytes) -> bytes:
        answer = decode_any(body)
        for choice in answer["choices"]:
            if choice["index"] in self._unfenced:
                choice["message"]["content"] = self._unfenced[choice["index"]]
        return _encode(answer)


_decode = msgspec.json.Decoder(_Answer).decode


class WatchedReader(HeldReader):
    """A reader whose answer passes as it comes, and which says at its end whether it was right."""

    __slots__ = ()
    holds = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body; return whole frames."""
        frames = self._inner.feed(data)
        self._keep(frames)
        self.done = self._inner.done
        return frames

    def finish(self) -> bytes:
        """Return the frames that the end of the body completes.

        Raises:
            WrongShape: the answer is not right.
        """
        frames = self._inner.finish()
        self._keep(frames)
        self._judge()
        return frames


def _problems(schema: Schema, text: str) -> list[str]:
    try:
        return schema.problems(_decoded(text))
    except (ValueError, RecursionError) as fault:
        return [f"it is not JSON: {fault}"]


def _decoded(text: str) -> Any:
    """Return a text's JSON; a number that no machine holds is infinite.

    Raises:
        ValueError: it is none.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text, parse_int=float, parse_constant=_no_number)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _inside_fence(text: str) -> str | None:
    """Return what stands within the one code fence that a text is; None: it is none."""
    match = _FENCE.fullmatch(text.strip())
    return match[1] if match is not None else None
