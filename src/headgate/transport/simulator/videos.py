"""The simulator's side of OpenAI's `/videos`: jobs that are done after a second, each a real animated GIF.

A job is all in its id, so it outlives the process. `fault=cut` makes it fail, `fault=stall` never ends it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.transport.simulator.film import film
from headgate.transport.simulator.reply import Reply, error_reply, json_reply, letters

if TYPE_CHECKING:
    from headgate.ports import Request
    from headgate.transport.simulator.wishes import Wish

_ID = re.compile(r"video_([0-9a-f]+)_(\d{1,3})_(\d{2,4})x(\d{2,4})_(ok|cut|stall)_\w+")
_DONE_MS = 1_000
_INVALID = "invalid_request_error"


def ordered(members: dict[str, Any], request: Request, wish: Wish, now_ms: int) -> Reply:
    """Take an order."""
    name = wish.fault.name if wish.fault is not None else ""
    end = name if name in {"cut", "stall"} else "ok"
    seconds, size = members.get("seconds") or "4", members.get("size") or "720x1280"
    job = f"video_{now_ms:x}_{seconds}_{size}_{end}_{letters(request.request_id.encode(), 8)}"
    if _ID.fullmatch(job) is None:
        return error_reply(400, f"The simulator makes no video of {seconds} s in {size}.", _INVALID, None)
    return json_reply(_shown(job, members.get("model"), now_ms))


def asked(path: str, model: str, now_ms: int) -> Reply:
    """Tell how far a job is, or give its film."""
    parts = path.partition("/videos/")[2].split("/")
    found = _ID.fullmatch(parts[0])
    if found is None:
        return error_reply(404, f"Video with id '{parts[0]}' not found.", _INVALID, None)
    if parts[1:] != ["content"]:
        return json_reply(_shown(parts[0], model, now_ms))
    seconds, width, height = (int(found[index]) for index in (2, 3, 4))
    body = film(seconds, width, height)
    length = (b"content-length", b"%d" % len(body))
    return Reply(200, ((b"content-type", b"image/gif"), length), iter((body,)))


def _shown(job: str, model: str | None, now_ms: int) -> dict[str, Any]:
    found = _ID.fullmatch(job)
    assert found is not None
    began, end = int(found[1], 16), found[5]
    gone = now_ms - began
    done = gone >= _DONE_MS and end != "stall"
    status = "queued" if gone < _DONE_MS // 4 else "in_progress"
    error = None
    if done:
        status = "completed" if end == "ok" else "failed"
    if status == "failed":
        error = {"code": "video_failed", "message": "The simulator failed, as it was asked to (fault cut)."}
    return {
        "id": job,
        "object": "video",
        "created_at": began // 1000,
        "status": status,
        "model": model,
        "progress": 100 if status == "completed" else min(99, 100 * gone // _DONE_MS),
        "seconds": found[2],
        "size": f"{found[3]}x{found[4]}",
        "error": error,
    }


def members_of(body: bytes) -> dict[str, Any]:
    """Return the members of an order."""
    return msgspec.json.decode(body, type=dict[str, Any])
