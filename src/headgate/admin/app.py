"""The admin API as Starlette routes: from bytes to `Asked`, and from an answer or an error to bytes."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from headgate.admin.description import describe
from headgate.admin.office import organization, serve
from headgate.admin.table import PUBLIC, Asked, Nothing, Route, Table, lists_of
from headgate.errors import (
    BodyTooLarge,
    CallerError,
    GatewayError,
    Internal,
    MediaTypeRefused,
    Unavailable,
)
from headgate.ops.actors import Actor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from headgate.admin.office import Office

Rows: TypeAlias = list[tuple[bytes, bytes]]

_JSON: Final = "application/json"
_MAX_BODY: Final = 256 * 1024
_THREADS: Final = 4
ROOTS: Final = ("/admin/v1", "/v1/organization", "/organization")  # all below is the API's, served or not
ANYONE: Final = Actor("anyone", account="none")  # has no permission anywhere


class Door(Protocol):
    """Who comes, by the headers of a request and the address of its socket."""

    def address(self, headers: Rows, peer: str) -> str:
        """Return where a request comes from."""
        ...

    def actor(self, headers: Rows, peer: str) -> Actor:
        """Return who asks; reads the store, so it is called in our threads.

        Raises:
            GatewayError: what the caller is told.
        """
        ...


class Words(Protocol):
    """Errors as OpenAI has them."""

    def render(self, error: GatewayError, request_id: str, /) -> tuple[int, Rows, bytes]:
        """Return status, headers and body."""
        ...

    def unknown_url(self, method: bytes, path: str, /) -> GatewayError:
        """Return the refusal of a path that no route has."""
        ...

    def wrong_method(self, method: bytes, path: str, methods: Iterable[bytes], /) -> GatewayError:
        """Return the refusal of a method that a path does not have."""
        ...


@cache  # most processes are never asked for it
def _description(table: Table) -> bytes:
    return msgspec.json.encode(describe(table))


class AdminApi:
    """Serve a table.

    Args:
        table: the routes.
        office: what their handlers work with.
        door: who asks.
        words: errors as OpenAI words and shapes them.
        fault: told of our own bugs.
        changed: told of each write that was done; returns when it is in force here.
    """

    def __init__(
        self,
        table: Table,
        office: Office,
        door: Door,
        words: Words,
        fault: Callable[[str, BaseException], None],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._table = table
        self._office = office
        self._door = door
        self._words = words
        self._fault = fault
        self._changed = changed
        # A few: writes wait for one another anyway, but one that waits for workers keeps nobody from reading.
        self._threads = ThreadPoolExecutor(_THREADS, "admin")

    def routes(self) -> list[BaseRoute]:
        """Return what Starlette serves: the table's paths, its description, and no other path below them."""
        by_path: dict[str, dict[str, Route]] = {}
        for route in self._table.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        served: list[BaseRoute] = [StarletteRoute("/admin/v1/openapi.json", self._describe, methods=["GET"])]
        for path, methods in by_path.items():
            place = _Place(self, methods)
            # An SDK whose base URL lacks the `/v1` finds its routes too.
            served += [StarletteRoute(each, place) for each in {path, path.removeprefix("/v1")}]
        nowhere = _Place(self, {})
        served += [StarletteRoute(f"{root}/{{rest:path}}", nowhere) for root in ROOTS]
        served += [StarletteRoute(root, nowhere) for root in ROOTS]
        return served

    async def _describe(self, _request: Request) -> Response:
        loop = asyncio.get_running_loop()  # which making it would stop for a tenth of a second
        made = await loop.run_in_executor(self._threads, _description, self._table)
        return Response(made, media_type=_JSON)

    async def respond(self, methods: Mapping[str, Route], request: Request) -> Response:
        """Answer one request to a path that has these methods."""
        try:
            route = self._chosen(methods, request)
            body = await self._body(request)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._answer, route, request, body)
        except GatewayError as error:
            return self._refusal(error)
        except Exception as fault:
            self._fault(f"{request.method} {request.url.path}", fault)
            return self._refusal(_told(fault))
        if route.method != "GET":
            await self._changed()
        return answer

    def _chosen(self, methods: Mapping[str, Route], request: Request) -> Route:
        method, path = request.method, request.scope["path"]
        if not methods:
            raise self._words.unknown_url(method.encode(), path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            raise self._words.wrong_method(method.encode(), path, [name.encode() for name in methods])
        return route

    @staticmethod
    async def _body(request: Request) -> bytes:
        raw = await request.body()
        if len(raw) > _MAX_BODY:
            raise BodyTooLarge(
                f"The request body is too large: this route takes at most {_MAX_BODY:,} bytes."
            )
        return raw

    def _answer(self, route: Route, request: Request, raw: bytes) -> Response:
        """Serve one request, in the thread.

        Raises:
            GatewayError: it is refused.
        """
        asked = self._ask(route, request, raw)
        key = asked.headers.get("idempotency-key") if route.repeatable else None
        answer = serve(self._office, route, asked, key)
        headers = {"x-headgate-replayed": "true"} if answer.replayed else {}
        return Response(answer.body, answer.status, headers, _JSON)

    def _refusal(self, error: GatewayError) -> Response:
        status, headers, body = self._words.render(error, "")  # the edge names the request
        named = {name.decode(): value.decode("latin-1") for name, value in headers if name != b"content-type"}
        return Response(body, status, named, _JSON)

    def _ask(self, route: Route, request: Request, raw: bytes) -> Asked:
        """Find out who asks, then check the shape of what is asked.

        Raises:
            GatewayError: it is refused before the handler runs.
        """
        rows = list(request.scope["headers"])
        peer = request.client.host if request.client is not None else ""
        actor = ANYONE if route.permission == PUBLIC else self._door.actor(rows, peer)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in rows}
        body = query = None
        if not route.raw and route.body is not Nothing:
            body = _decode(route.body, raw, headers.get("content-type", ""))
        if route.query is not Nothing:
            query = _query(route.query, request.query_params.multi_items())
        elif request.query_params:
            name = next(iter(request.query_params))
            raise CallerError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        account = organization(self._office, actor, headers) if route.openai else ""
        address = self._door.address(rows, peer)
        return Asked(actor, request.path_params, body, query, raw, headers, address, account)


class _Place:
    """One path, as an ASGI app: so that every method comes here, those too that it does not have."""

    def __init__(self, api: AdminApi, methods: Mapping[str, Route]) -> None:
        self._api = api
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        response = await self._api.respond(self._methods, request)
        await response(scope, receive, send)


def _told(fault: BaseException) -> GatewayError:
    """Return what is said of a fault of ours: a database that does not answer may do so in a moment."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, sqlite3.OperationalError):
            return Unavailable("The gateway's database does not answer. Try again in a moment.")
        cause = cause.__cause__
    return Internal("The server had an error while processing your request.")


def _decode(kind: type[msgspec.Struct], raw: bytes, media_type: str) -> msgspec.Struct:
    if media_type.partition(";")[0].strip().lower() != _JSON:
        raise MediaTypeRefused("Send the body as application/json.")
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as fault:
        raise shape_error(fault) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise CallerError("We could not parse the JSON body of your request.") from fault


def _query(kind: type[msgspec.Struct], pairs: list[tuple[str, str]]) -> msgspec.Struct:
    """Read the query; a list is sent as `name[]=a&name[]=b`, as OpenAI's clients do, or as `name=a&name=b`.

    Raises:
        CallerError: a name is unknown or comes twice, or its value is none.
    """
    given: dict[str, Any] = {}
    several = lists_of(kind)
    for name, value in pairs:
        bare = name.removesuffix("[]")
        if bare in several:
            given.setdefault(bare, []).append(value)
        elif name in given:
            raise CallerError(f"The query names '{name}' twice.", param=name, code="invalid_value")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise shape_error(fault) from fault


def shape_error(fault: msgspec.ValidationError) -> CallerError:
    """Return what does not fit, with the dotted path of the member."""
    text, _, place = str(fault).partition(" - at `")
    path = place.rstrip("`").removeprefix("$").removeprefix(".")
    named = text.partition("`")[2].rstrip("`")
    if text.startswith("Object contains unknown field"):
        param = f"{path}.{named}" if path else named
        return CallerError(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if text.startswith("Object missing required field"):
        param = f"{path}.{named}" if path else named
        return CallerError(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    # "Expected `int`, got `str`" is about the type; "Expected `int` >= 1" is not
    code = "invalid_type" if ", got `" in text else "invalid_value"
    if not path:
        return CallerError(f"Invalid request: {text}.", code=code)
    return CallerError(f"Invalid value for '{path}': {text}.", param=path, code=code)
