"""The site beside the data plane: the start page and that of the providers' health, as a Starlette app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from headgate.dashboard.health import drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from headgate.vitals import Report

_HERE = Path(__file__).parent
_SECURITY = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_FRESH = {"cache-control": "no-store"}


class Status(msgspec.Struct, frozen=True):
    """What the start page says."""

    version: str
    providers: tuple[str, ...]
    simulated: bool
    ready: str  # why it is not ready, or empty
    models: int
    example: str  # a model that can be called here
    health: bool = True  # everybody may see how the providers do


class Source(Protocol):
    """What the site shows."""

    def status(self) -> Status:
        """Return what runs."""
        ...

    async def report(self) -> Report:
        """Return how the providers do."""
        ...


def build(source: Source, others: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI app; `others` are routes of other surfaces that it serves too."""
    pages = Environment(loader=FileSystemLoader(_HERE / "pages"), autoescape=select_autoescape(default=True))
    words = msgspec.json.decode((_HERE / "words.json").read_bytes(), type=dict[str, dict[str, str]])
    style = (_HERE / "pages" / "style.css").read_text(encoding="utf-8")

    async def start(request: Request) -> Response:
        language = _language(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))
        page = pages.get_template("start.html").render(
            status=source.status(), words=words[language], language=language, base=_base(request)
        )
        return HTMLResponse(page, headers=_SECURITY)

    async def health(request: Request) -> Response:
        report = await source.report()
        if not _wants_page(request):
            return Response(msgspec.json.encode(report), media_type="application/json", headers=_FRESH)
        language = _language(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))
        page = pages.get_template("status.html").render(
            health=drawn(report, words[language]), words=words[language], language=language
        )
        return HTMLResponse(page, headers=_SECURITY)

    async def sheet(_request: Request) -> Response:
        return Response(style, media_type="text/css", headers={"cache-control": "max-age=3600"})

    routes = [
        Route("/", start, methods=["GET"]),
        Route("/status", health, methods=["GET"]),
        Route("/style.css", sheet, methods=["GET"]),
        *others,
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _wrong_method})


def _wants_page(request: Request) -> bool:
    """Say whether a person asks: a browser names HTML before anything that would take JSON."""
    kinds = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return "text/html" in kinds and "application/json" not in kinds


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1:8787')}/v1"


def _language(asked: str, accepted: str) -> str:
    """Return `zh` or `en`: what the address asks for, else the browser's first known language."""
    if asked in {"en", "zh"}:
        return asked
    for part in accepted.split(","):
        tag = part.split(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh"
        if tag.startswith("en"):
            return "en"
    return "en"


def _error(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


async def _not_found(request: Request, _fault: Exception) -> Response:
    return _error(404, f"Invalid URL ({request.method} {request.url.path})", "unknown_url")


async def _wrong_method(request: Request, _fault: Exception) -> Response:
    message = f"Not allowed to {request.method} on {request.url.path}. (HINT: this page has GET.)"
    return _error(405, message, "method_not_supported", {"allow": "GET"})
