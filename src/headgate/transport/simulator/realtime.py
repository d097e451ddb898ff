"""The simulator as a peer in OpenAI's Realtime API: what it says is a chat answer, spoken as a tone.

It keeps a conversation, answers in text or in audio (16-bit PCM at 24 kHz with a transcript), hears the end
of speech by the loudness of what comes in, can be interrupted, and counts. What it does not know it refuses
as OpenAI does: by an error event, after which the session goes on.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.channels import NORMAL
from headgate.ports import Head, Request
from headgate.transport.simulator.reply import letters
from headgate.transport.simulator.tone import RATE, loud, seconds_of, spoken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from headgate.transport.simulator.reply import Reply
    from headgate.values import Target

    Answering = Callable[[Request, Target], Awaitable[Reply]]

_encode = msgspec.json.encode
_WAITING = 64  # events that may wait for the other side to read them
_INPUT_PER_S, _OUTPUT_PER_S = 10, 20  # tokens of a second of audio
_HOUR_S = 3_600
_INVALID = "invalid_request_error"
JSONObject = dict[str, Any]


class Misheard(Exception):
    """An event that cannot be followed, in words for the client."""


class RealtimePeer:
    """One session. Implements `channels.Channel`.

    Args:
        answering: of the simulator: takes a request for a chat answer.
        target: whose model is played.
        request: the handshake; its headers hold what is asked of the simulator.
        created: Unix seconds.
        chunk_ms: between the pieces of an answer.
    """

    def __init__(
        self, answering: Answering, target: Target, request: Request, created: int, chunk_ms: int
    ) -> None:
        self.gone = False
        self.ending = (NORMAL, "")
        self._answering = answering
        self._target = target
        self._request = request
        self._pause_s = chunk_ms / 1000
        self._made = 0
        self._messages: list[JSONObject] = []
        self._heard_s = 0.0  # of audio in the conversation
        self._buffer = b""
        self._speaking = False  # somebody is, by what is in the buffer
        self._cached = 0
        self._cancelled = False
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._session: JSONObject = {
            "type": "realtime",
            "object": "realtime.session",
            "id": self._id("sess"),
            "model": target.model.name,
            "output_modalities": ["audio"],
            "instructions": "You are a simulator. Say what you are asked to say.",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "expires_at": created + _HOUR_S,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": RATE},
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": {
                        "type": "server_vad",
                        "silence_duration_ms": 200,
                        "create_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcm", "rate": RATE}, "voice": "marin", "speed": 1.0},
            },
            "include": None,
        }
        self._task = asyncio.get_running_loop().create_task(self._serve())

    # ── the channel ─────────────────────────────────────────────────────────────────────────────

    async def receive(self) -> bytes | None:
        """Wait for the next event."""
        return None if self.gone else await self._outbox.get()

    def send(self, message: bytes) -> None:
        """Take an event."""
        if b'"response.cancel"' in message:
            self._cancelled = True
        self._inbox.put_nowait(message)

    async def drained(self) -> None:
        """Wait for nothing: it listens at once."""

    def close(self, code: int, reason: str = "") -> None:
        """End."""
        if not self.gone:
            self.ending = (code, reason)
            self.abort()

    def abort(self) -> None:
        """End now."""
        self.gone = True
        self._task.cancel()
        while not self._outbox.empty():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    # ── events ──────────────────────────────────────────────────────────────────────────────────

    def _id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{letters(b'%b %d' % (self._request.request_id.encode(), self._made), 21)}"

    async def _tell(self, kind: str, **members: Any) -> None:
        await self._outbox.put(_encode({"type": kind, "event_id": self._id("event"), **members}))

    async def _serve(self) -> None:
        await self._tell("session.created", session=self._session)
        while True:
            event_id = None
            try:
                event = msgspec.json.decode(await self._inbox.get(), type=JSONObject)
                event_id = event.get("event_id")
                await self._follow(event)
            except (Misheard, msgspec.DecodeError, ValueError, TypeError, AttributeError) as fault:
                said = {
                    "type": _INVALID,
                    "code": "invalid_event",
                    "message": str(fault),
                    "param": None,
                    "event_id": event_id,
                }
                await self._tell("error", error=said)

    async def _follow(self, event: JSONObject) -> None:
        kind = str(event.get("type"))
        if kind == "session.update":
            _merge(self._session, event["session"])
            await self._tell("session.updated", session=self._session)
        elif kind == "conversation.item.create":
            await self._add(event["item"])
        elif kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(event["audio"], validate=True))
        elif kind == "input_audio_buffer.commit":
            await self._commit()
        elif kind == "input_audio_buffer.clear":
            self._buffer, self._speaking = b"", False
            await self._tell("input_audio_buffer.cleared")
        elif kind == "response.create":
            await self._respond(event.get("response") or {})
        elif kind != "response.cancel":
            raise Misheard(f"The simulator does not know the event {kind!r}.")
        elif self._cancelled:
            self._cancelled = False
            raise Misheard("Cancellation failed: no active response found.")

    async def _add(self, item: JSONObject) -> None:
        if item.get("type") not in {"message", "function_call_output"}:
            raise Misheard(f"The simulator takes no items of type {item.get('type')!r}.")
        item = {"id": self._id("item"), "object": "realtime.item", "status": "completed", **item}
        parts = item.get("content") or []
        text = " ".join(str(part.get("text") or part.get("transcript") or "") for part in parts)
        for part in parts:
            self._heard_s += seconds_of(base64.b64decode(part.pop("audio", None) or ""))
        self._messages.append(
            {"role": item.get("role") or "user", "content": text or str(item.get("output"))}
        )
        await self._tell("conversation.item.added", previous_item_id=None, item=item)
        await self._tell("conversation.item.done", previous_item_id=None, item=item)

    async def _hear(self, audio: bytes) -> None:
        """Take audio; where the session detects turns, its end is a silence after something loud."""
        self._buffer += audio
        heard = self._session["audio"]["input"]
        if heard.get("turn_detection") is None:
            return
        at_ms = int(seconds_of(self._buffer) * 1000)
        if not self._speaking and loud(audio):
            self._speaking = True
            item = self._id("item")
            await self._tell("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=item)
        silence = int(heard["turn_detection"].get("silence_duration_ms") or 200) * RATE // 500
        if self._speaking and len(self._buffer) >= silence and not loud(self._buffer[-silence:]):
            await self._tell(
                "input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._id("item")
            )
            await self._commit()
            if heard["turn_detection"].get("create_response", True):
                await self._respond({})

    async def _commit(self) -> None:
        if not self._buffer:
            raise Misheard("Error committing input audio buffer: buffer too small. It is empty.")
        seconds = seconds_of(self._buffer)
        self._buffer, self._speaking = b"", False
        self._heard_s += seconds
        item_id = self._id("item")
        self._messages.append({"role": "user", "content": f"(audio of {seconds:.1f} s)"})
        await self._tell("input_audio_buffer.committed", previous_item_id=None, item_id=item_id)
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        await self._tell("conversation.item.added", previous_item_id=None, item=item)
        await self._tell("conversation.item.done", previous_item_id=None, item=item)
        written = self._session["audio"]["input"].get("transcription")
        if written is not None:
            await self._write_down(item_id, seconds)

    async def _write_down(self, item_id: str, seconds: float) -> None:
        tokens = int(seconds * _INPUT_PER_S)
        usage = {
            "type": "tokens",
            "total_tokens": tokens + 4,
            "input_tokens": tokens,
            "input_token_details": {"text_tokens": 0, "audio_tokens": tokens},
            "output_tokens": 4,
        }
        await self._tell(
            "conversation.item.input_audio_transcription.completed",
            item_id=item_id,
            content_index=0,
            transcript="(a tone)",
            usage=usage,
        )

    # ── responses ───────────────────────────────────────────────────────────────────────────────

    async def _respond(self, asked: JSONObject) -> None:
        """Make a response: a chat answer to the conversation, in text or as audio with a transcript."""
        self._cancelled = False
        modalities = asked.get("output_modalities") or self._session["output_modalities"]
        apart = asked.get("conversation") == "none"
        response: JSONObject = {
            "object": "realtime.response",
            "id": self._id("resp"),
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None if apart else "conv_" + letters(self._request.request_id.encode(), 21),
            "output_modalities": modalities,
            "max_output_tokens": asked.get("max_output_tokens") or self._session["max_output_tokens"],
            "usage": None,
            "metadata": asked.get("metadata"),
        }
        await self._tell("response.created", response=response)
        text, usage = await self._chat(asked, response["max_output_tokens"])
        kind = "output_audio" if "audio" in modalities else "output_text"
        item, audio = await self._say(response["id"], kind, text)
        response["output"] = [item]
        response["status"] = "cancelled" if self._cancelled else "completed"
        if self._cancelled:
            response["status_details"] = {"type": "cancelled", "reason": "client_cancelled"}
        if not apart:
            self._messages.append({"role": "assistant", "content": text})
        response["usage"] = self._count(usage, audio)
        self._cancelled = False
        await self._tell("response.done", response=response)

    async def _chat(self, asked: JSONObject, most: int | str) -> tuple[str, JSONObject]:
        told = asked.get("instructions") or self._session["instructions"]
        messages = [{"role": "system", "content": told}, *self._messages]
        if len(messages) == 1:
            messages.append({"role": "user", "content": told})
        members: JSONObject = {"model": self._target.model.name, "messages": messages}
        if isinstance(most, int):
            members["max_completion_tokens"] = most
        headers, request_id = self._request.headers, self._request.request_id
        request = Request("POST", "/v1/chat/completions", headers, _encode(members), request_id)
        reply = await self._answering(request, self._target)
        answer = msgspec.json.decode(b"".join(part for part in reply.parts if isinstance(part, bytes)))
        if "error" in answer:
            raise Misheard(answer["error"]["message"])
        return answer["choices"][0]["message"]["content"] or "", answer["usage"]

    async def _say(self, response: str, kind: str, text: str) -> tuple[JSONObject, int]:
        """Tell the pieces of an answer; return its item and the audio's tokens."""
        item: JSONObject = {
            "id": self._id("item"),
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        where = {"response_id": response, "item_id": item["id"], "output_index": 0, "content_index": 0}
        added = {"response_id": response, "output_index": 0}
        await self._tell("response.output_item.added", **added, item=item)
        part: JSONObject = {"type": kind.removeprefix("output_")}
        await self._tell("response.content_part.added", **where, part=part)
        name = "transcript" if kind == "output_audio" else "text"
        said, audio = "", 0
        stem = f"response.{kind}_transcript" if kind == "output_audio" else f"response.{kind}"
        for piece in _pieces(text):
            await asyncio.sleep(self._pause_s)
            if self._cancelled:
                break
            said += piece
            await self._tell(f"{stem}.delta", **where, delta=piece)
            if kind == "output_audio":
                tone = spoken(piece)
                audio += len(tone)
                await self._tell(f"response.{kind}.delta", **where, delta=base64.b64encode(tone).decode())
        if kind == "output_audio":
            await self._tell(f"response.{kind}.done", **where)
        await self._tell(f"{stem}.done", **where, **{name: said})
        await self._tell("response.content_part.done", **where, part={**part, name: said})
        item["status"] = "incomplete" if self._cancelled else "completed"
        item["content"] = [{"type": kind, name: said}]
        await self._tell("response.output_item.done", **added, item=item)
        return item, audio * _OUTPUT_PER_S // (RATE * 2)

    def _count(self, usage: JSONObject, audio: int) -> JSONObject:
        text, heard = usage["prompt_tokens"], int(self._heard_s * _INPUT_PER_S)
        made = usage["completion_tokens"]
        cached, self._cached = self._cached, text
        return {
            "total_tokens": text + heard + made + audio,
            "input_tokens": text + heard,
            "output_tokens": made + audio,
            "input_token_details": {
                "text_tokens": text,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": cached,
                "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": made, "audio_tokens": audio},
        }


def refused(reply: Reply) -> tuple[Head, bytes]:
    """Return a reply as the plain answer to a handshake."""
    body = b"".join(part for part in reply.parts if isinstance(part, bytes))
    return Head(reply.status, reply.headers), body


def _merge(settings: JSONObject, changes: JSONObject) -> None:
    """Change settings member by member."""
    for name, value in changes.items():
        known = settings.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            settings[name] = value


def _pieces(text: str) -> Iterator[str]:
    """Yield a text word by word; long words, and languages without spaces, in parts of eight characters."""
    for index, word in enumerate(text.split(" ")):
        for start in range(0, max(len(word), 1), 8):
            yield (" " if index and not start else "") + word[start : start + 8]
