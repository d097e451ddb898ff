"""Routes that OpenAI has and this version does not serve, and what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Routes that OpenAI has and this version does not serve: first segment, and what to use instead.
_CHAT = "Use POST /v1/chat/completions, which every SDK of OpenAI has as `chat.completions.create`."
NOT_SERVED: Mapping[str, str] = {
    "responses": _CHAT,
    "conversations": f"Keep the messages in your program. {_CHAT}",
    "assistants": f"OpenAI closed its Assistants API on 2026-08-26. {_CHAT}",
    "threads": f"OpenAI closed its Assistants API on 2026-08-26. {_CHAT}",
    "chat": "Ask a model with POST /v1/chat/completions. Answers are not stored: keep them in your program.",
    "images": "Images are made by POST /v1/images/generations, edits and variations.",
    "audio": "There are POST /v1/audio/speech, transcriptions and translations.",
    "videos": "Order one with POST /v1/videos.",
    "realtime": "Open a WebSocket at /v1/realtime?model=...",
    "files": "Bring one with POST /v1/files.",
    "uploads": "Begin one with POST /v1/uploads.",
    "batches": "Order one with POST /v1/batches.",
    "vector_stores": "Compute vectors with POST /v1/embeddings and search them in your program.",
    "fine_tuning": "Fine-tune at the provider, then call the model here by its name.",
    "evals": "Run the evaluation in your program.",
    "organization": "See docs/admin-api.md for the routes of the admin API that are served.",
    "containers": _CHAT,
    "live": f"Streams are served by SSE. {_CHAT}",
    "skills": _CHAT,
    "chatkit": _CHAT,
    "agents": _CHAT,
    "vaults": "Keep secrets with the program that needs them.",
    "decisions": _CHAT,
    "safety": "Call the provider directly.",
    "content_provenance_checks": "Call the provider directly.",
    "webhook_endpoints": "Read the answer of each call, or its stream.",
    "webhook_event_types": "Read the answer of each call, or its stream.",
    "edits": f"OpenAI closed /v1/edits. {_CHAT}",
    "engines": f"OpenAI closed /v1/engines. {_CHAT}",
}
