"""The admin API as Starlette routes: from bytes to `Asked`, and from an answer or an error to bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from headgate.admin.description import describe
from headgate.admin.office import serve
from headgate.admin.table import PUBLIC, Asked, Nothing, Route, Table
from headgate.errors import BodyTooLarge, CallerError, GatewayError, Internal, MediaTypeRefused
from headgate.ops.actors import Actor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from headgate.admin.office import Office

Rows: TypeAlias = list[tuple[bytes, bytes]]
Render: TypeAlias = Callable[[GatewayError, str], tuple[int, Rows, bytes]]
Identify: TypeAlias = Callable[[Rows, str], Actor]  # headers and peer; raises what the caller is told

_JSON: Final = "application/json"
_MAX_BODY: Final = 256 * 1024
ANYONE: Final = Actor("anyone", account="none")  # has no permission anywhere


class AdminApi:
    """Serve a table.

    Args:
        table: the routes.
        office: what their handlers work with.
        identify: who asks; reads the store, so it is called in our thread.
        render: an error as status, headers and body, in OpenAI's shape.
        fault: told of our own bugs.
    """

    def __init__(
        self,
        table: Table,
        office: Office,
        identify: Identify,
        render: Render,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self._table = table
        self._office = office
        self._identify = identify
        self._render = render
        self._fault = fault
        # One thread: writes wait for one another anyway.
        self._thread = ThreadPoolExecutor(1, "admin")
        self._description = msgspec.json.encode(describe(table))

    def routes(self) -> list[BaseRoute]:
        """Return what Starlette serves: the table's paths, and its description."""
        by_path: dict[str, dict[str, Route]] = {}
        for route in self._table.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        served: list[BaseRoute] = [StarletteRoute("/admin/v1/openapi.json", self._describe, methods=["GET"])]
        for path, methods in by_path.items():
            served.append(StarletteRoute(path, self._endpoint(methods), methods=list(methods)))
        return served

    async def _describe(self, _request: Request) -> Response:
        return Response(self._description, media_type=_JSON)

    def _endpoint(self, methods: Mapping[str, Route]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            route = methods.get(request.method) or methods["GET"]  # HEAD
            try:
                body = await self._body(request)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread, self._answer, route, request, body)
            except GatewayError as error:
                return self._refusal(error)
            except Exception as fault:
                self._fault(f"{route.method} {route.path}", fault)
                return self._refusal(Internal("The server had an error while processing your request."))

        return endpoint

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
        key = asked.headers.get("idempotency-key", "") if route.method != "GET" else ""
        answer = serve(self._office, route, asked, key)
        headers = {"x-headgate-replayed": "true"} if answer.replayed else {}
        return Response(answer.body, answer.status, headers, _JSON)

    def _refusal(self, error: GatewayError) -> Response:
        status, headers, body = self._render(error, "")  # the edge names the request
        named = {name.decode(): value.decode("latin-1") for name, value in headers if name != b"content-type"}
        return Response(body, status, named, _JSON)

    def _ask(self, route: Route, request: Request, raw: bytes) -> Asked:
        """Find out who asks, then check the shape of what is asked.

        Raises:
            GatewayError: it is refused before the handler runs.
        """
        rows = list(request.scope["headers"])
        peer = request.client.host if request.client is not None else ""
        actor = ANYONE if route.permission == PUBLIC else self._identify(rows, peer)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in rows}
        body = query = None
        if not route.raw and route.body is not Nothing:
            body = _decode(route.body, raw, headers.get("content-type", ""))
        if route.query is not Nothing:
            query = _query(route.query, request.query_params.multi_items())
        elif request.query_params:
            name = next(iter(request.query_params))
            raise CallerError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        return Asked(actor, request.path_params, body, query, raw, headers)


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
    """Read the query; a name that ends with `[]` is a list, as OpenAI's clients send one.

    Raises:
        CallerError: a name is unknown or comes twice, or its value is none.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name.endswith("[]"):
            given.setdefault(name[:-2], []).append(value)
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
    code = "invalid_type" if text.startswith("Expected") else "invalid_value"
    if not path:
        return CallerError(f"Invalid request: {text}.", code=code)
    return CallerError(f"Invalid value for '{path}': {text}.", param=path, code=code)
