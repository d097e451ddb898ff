"""The routes of the data plane: which there are, who may call them, and how a call starts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from headgate.errors import GatewayError, MethodRefused, NotFound, Unavailable
from headgate.http.answers import processing, refuse, whose
from headgate.http.batches import BatchRoutes
from headgate.http.callers import heed, identify
from headgate.http.errors import VERSION
from headgate.http.files import FileRoutes
from headgate.http.offers import offer, offers
from headgate.http.parse import parse
from headgate.http.realtime import RealtimeRoute, SecretRoute
from headgate.http.recorded import ResumeRoute, is_resume, recorded
from headgate.http.scan import scan
from headgate.http.unserved import NOT_SERVED
from headgate.http.uploads import UploadRoutes
from headgate.http.videos import VideoRoutes
from headgate.pipeline import refuse_loop
from headgate.providers.registry import FACES
from headgate.values import Call
from headgate.wire.uploads import take_form

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from headgate.admission.shedding import Shedder
    from headgate.channels import Channel
    from headgate.http.batches import Batches
    from headgate.http.callers import Caller
    from headgate.http.crowd import Crowd
    from headgate.http.edge import Incoming
    from headgate.http.files import Archive
    from headgate.http.offers import Offer
    from headgate.http.recorded import Recorder
    from headgate.http.videos import Videos
    from headgate.identity.keys import Keyring
    from headgate.pipeline import Pipeline
    from headgate.ports import CallIds, Clock, Failpoints, Sink
    from headgate.providers.registry import FaceMaker
    from headgate.routing.routes import Routes
    from headgate.values import Operation, Principal, Target

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")  # as Prometheus reads it
_encode = msgspec.json.encode
OPERATIONS: Mapping[str, Operation] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/moderations": "moderations",
    "/images/generations": "images",
    "/audio/speech": "speech",
}
FORMS: Mapping[str, Operation] = {  # come with files
    "/images/edits": "image_edits",
    "/images/variations": "image_variations",
    "/audio/transcriptions": "transcriptions",
    "/audio/translations": "translations",
}
_COUNTS: Final = "/count_tokens"  # the end of a path that asks how long an input is
SITE: Final = frozenset({"organization"})  # the site serves these, and refuses what it does not serve of them


class Route(Protocol):
    """What the edge asks of a route."""

    max_body_bytes: int

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request; starts its own task where it has to wait."""
        ...


class Service(Protocol):
    """What the routes need of the process."""

    keyring: Keyring
    routes: Routes
    pipeline: Pipeline
    ids: CallIds
    clock: Clock
    shedder: Shedder
    crowd: Crowd
    failpoints: Failpoints
    instance: str

    @property
    def ready(self) -> str:
        """Return why calls cannot be served, or an empty text."""
        ...

    @property
    def draining(self) -> bool:
        """Say whether no new call is taken."""
        ...

    def refused(self, operation: str, error: GatewayError, times: int = 1) -> None:
        """Count a refusal, or several that are alike."""
        ...

    def exposition(self) -> bytes:
        """Return the exposition of all metrics."""
        ...

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """Return the networks of the proxies that say truly for whom they ask."""
        ...

    def videos(self) -> Videos:
        """Return who keeps the jobs of videos."""
        ...

    def files(self) -> Archive:
        """Return who keeps files."""
        ...

    def batches(self) -> Batches:
        """Return who keeps batches."""
        ...

    def recorder(self) -> Recorder:
        """Return who records answers."""
        ...

    def fault(self, call: Call, fault: BaseException) -> None:
        """Log a bug of ours."""
        ...

    def start_session(self, call: Call, sink: Sink, accept: Callable[[], Channel]) -> None:
        """Own a session over WebSocket as a call; `accept` answers its handshake."""
        ...

    def start_call(self, run: Coroutine[None, None, None], call: Call) -> None:
        """Own a call's task."""
        ...

    def named(self, call: Call, own_id: str) -> None:
        """Log what a caller calls its request, beside our id."""
        ...


class DataPlane:
    """The table of routes."""

    def __init__(
        self,
        service: Service,
        max_body_bytes: int,
        max_image_body_bytes: int,
        *,
        max_file_bytes: int = 512 << 20,
        shows_status: bool = True,
    ) -> None:
        self._table: dict[str, dict[bytes, Route]] = {}
        self._unserved = NOT_SERVED if shows_status else frozenset({*NOT_SERVED, "status"})
        for path, operation in OPERATIONS.items():
            # Chat requests carry images inside their messages.
            limit = max_image_body_bytes if operation == "chat" else max_body_bytes
            self._put(path, b"POST", CallRoute(service, operation, limit))
        for path, operation in FORMS.items():
            self._put(path, b"POST", FormRoute(service, operation, max_image_body_bytes))
        for path, face in FACES.items():
            kind = CountRoute if path.endswith(_COUNTS) else CallRoute
            self._put(path, b"POST", kind(service, "chat", max_image_body_bytes, face))
        self._put("/realtime", b"GET", RealtimeRoute(service))
        self._put("/realtime/client_secrets", b"POST", SecretRoute(service))
        self._kept: dict[str, VideoRoutes | FileRoutes | UploadRoutes | BatchRoutes] = {
            "videos": VideoRoutes(service),
            "files": FileRoutes(service, max_file_bytes),
            "uploads": UploadRoutes(service),
            "batches": BatchRoutes(service),
        }
        self._resume = ResumeRoute(service)
        self._models = ModelRoute(service)
        self._put("/models", b"GET", ModelsRoute(service))
        self._table["/healthz"] = {b"GET": Plain(lambda: (200, b'{"status":"ok"}'))}
        self._table["/readyz"] = {b"GET": Plain(lambda: _readiness(service))}
        # Asked for every few seconds, so it must not bring the site and its libraries into memory.
        self._table["/metrics"] = {b"GET": Plain(lambda: (200, service.exposition()), _TEXT)}

    def _put(self, path: str, method: bytes, route: Route) -> None:
        self._table[path] = self._table["/v1" + path] = {method: route}

    def find(self, method: bytes, path: str) -> Route | None:
        """Return the route of a request; None leaves it to the site."""
        methods = self._table.get(path)
        if methods is not None:
            route = methods.get(b"GET" if method == b"HEAD" else method)
            return route if route is not None else Refusal(_not_allowed(method, path, methods))
        bare = path.removeprefix("/v1")
        if bare.startswith("/models/") and len(bare) > 8:
            if method in {b"GET", b"HEAD"}:
                return self._models
            return Refusal(wrong_method(method, path, {b"GET": self._models}))
        if _group(path) in SITE:
            return None
        if path.startswith("/v1") or _group(path) in self._unserved:
            return self._find_kept(method, path) or Refusal(unknown_url(method, path))
        return None

    def _find_kept(self, method: bytes, path: str) -> Route | None:
        """Return the route of something that outlives its request; None where there is none."""
        bare = path.removeprefix("/v1")
        if is_resume(bare):
            return self._resume if method == b"GET" else Refusal(wrong_method(method, path, (b"GET",)))
        routes = self._kept.get(_group(path))
        return routes.find(method, bare) if routes is not None else None

    def served(self) -> Iterator[tuple[bytes, str]]:
        """Yield each method and path below `/v1` whose routes are named; `{id}` stands for any name."""
        kept = {
            f"/v1/{group}{rest}": row
            for group, routes in self._kept.items()
            for rest, row in routes.table.items()
        }
        for path, methods in (self._table | kept).items():
            if path.startswith("/v1/"):
                yield from ((method, path) for method in methods)

    def find_health(self, method: bytes, path: str) -> Route | None:
        """Return the route of a probe on the second listener, which serves no calls."""
        if path in {"/", "/style.css", "/status"}:
            return None
        if path in {"/healthz", "/readyz", "/metrics"}:
            return self.find(method, path)
        return Refusal(unknown_url(method, path))


def _group(path: str) -> str:
    """Return the first segment of a path, behind `/v1`; empty where it has none, as in `OPTIONS *`."""
    return path.removeprefix("/v1").partition("/")[2].partition("/")[0]


def _not_allowed(method: bytes, path: str, methods: Mapping[bytes, Route]) -> GatewayError:
    # OpenAI lists stored answers there.
    if method in {b"GET", b"HEAD"} and path.endswith("/chat/completions"):
        return unknown_url(method, path)
    return wrong_method(method, path, methods)


def wrong_method(method: bytes, path: str, methods: Iterable[bytes]) -> MethodRefused:
    """Return the refusal of a method that a route does not have."""
    allowed = ", ".join(name.decode() for name in methods)
    return MethodRefused(
        f"Not allowed to {method.decode('latin-1')} on {path}. (HINT: Perhaps you meant to use a different "
        f"HTTP method? This route has {allowed}.)",
        headers={"allow": allowed},
    )


def unknown_url(method: bytes, path: str) -> NotFound:
    """Return the refusal of a path that no route has, with what to use instead where that is known."""
    shown = path if len(path) <= 200 else path[:200] + "..."
    message = f"Invalid URL ({method.decode('latin-1')} {shown})"
    advice = NOT_SERVED.get(_group(path))
    if advice is not None:
        message += f": this version of Headgate does not serve this route. {advice}"
    elif path.startswith("/v1/v1/"):
        message += ": /v1 stands in it twice. Leave it out of the base URL, or of what your program adds."
    return NotFound(message, code="unknown_url")


class Refusal:
    """A route that always refuses."""

    __slots__ = ("_error", "max_body_bytes")

    def __init__(self, error: GatewayError) -> None:
        self._error = error
        self.max_body_bytes = 10 * 1024 * 1024

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Answer with the error."""
        refuse(incoming.request_id, self._error, sink)


class CallRoute:
    """A route that makes calls of one operation, in OpenAI's form or in that of a face."""

    __slots__ = ("_face", "_operation", "_plain", "_service", "max_body_bytes")

    def __init__(
        self, service: Service, operation: Operation, max_body_bytes: int, face: FaceMaker | None = None
    ) -> None:
        self._service = service
        self._operation: Operation = operation
        self._face = face
        self._plain = face is None and type(self) is CallRoute  # a body is read as it comes
        self.max_body_bytes = max_body_bytes

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Authenticate, parse, and give the call to the pipeline."""
        service = self._service
        if service.shedder.active and service.crowd.takes(self._operation, self._face, incoming, sink):
            return
        call = Call(service.ids.next(), self._operation, incoming.received_ns, service.ids.at)
        if self._face is not None:
            call.face = self._face(incoming.head.header)
        try:
            if service.draining:
                raise Unavailable("The gateway is shutting down. Send the request again.")
            caller = incoming.head.memo  # who sent a head before is known by it
            if caller is None or caller.keyring is not service.keyring or not caller.plain:
                caller = identify(service, incoming)
            call.principal = caller.principal
            service.failpoints.hit("after-auth")
            if self._plain and caller.plain:
                parse(incoming.body, call)
                run = self._serve(call, sink)
            else:
                run = self._heed(caller, call, incoming, sink)
        except GatewayError as error:
            service.refused(self._operation, error)
            service.pipeline.refuse(call, error, sink)
            return
        service.start_call(run, call)

    def _heed(
        self, caller: Caller, call: Call, incoming: Incoming, sink: Sink
    ) -> Coroutine[None, None, None]:
        """Read a call that comes in a form of its own, or with more to heed than its body."""
        service = self._service
        if caller.hop is not None:
            refuse_loop(caller.hop, service.instance)
        self._read(incoming, call)
        heed(service, caller, call, sink)
        return self._serve(call, sink) if caller.wish is None else self._record(call, incoming, sink)

    def _serve(self, call: Call, sink: Sink) -> Coroutine[None, None, None]:
        service = self._service
        if call.media is not None and call.media.stored:
            run = partial(service.pipeline.serve, call, sink, service.routes)
            return service.files().inlining.carry(call, run)
        return service.pipeline.serve(call, sink, service.routes)

    def _record(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        return recorded(self._service, call, incoming, sink, partial(self._serve, call))

    def _read(self, incoming: Incoming, call: Call) -> None:
        """Read the call, in its own form where it has one."""
        face, body = call.face, incoming.body
        if face is None:
            parse(body, call)
            return
        scan(body)
        parse(face.read(body, lambda model: self._target(call, model)), call)
        face.weigh(call)

    def _target(self, call: Call, model: str) -> Target | None:
        """Return the first target; None where there is none, which the pipeline will say."""
        service, principal = self._service, call.principal
        assert principal is not None
        try:
            return service.routes.candidates(model, principal.book, service.clock.wall())[0]
        except GatewayError:
            return None


class FormRoute(CallRoute):
    """A route whose calls bring files."""

    __slots__ = ()
    brings_files: Literal[True] = True

    def begin(self, incoming: Incoming) -> None:
        """Ask for the key before a long form is kept."""
        identify(self._service, incoming)

    def _read(self, incoming: Incoming, call: Call) -> None:
        """Take the files of a form; read its fields as a JSON body."""
        kind = incoming.head.header(b"content-type") or b""
        fields = take_form(kind, incoming.form, call)
        parse(incoming.body if fields is None else fields, call)


class CountRoute(CallRoute):
    """A route that counts the input of a call and makes none."""

    __slots__ = ()

    def _record(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        """Count again: it costs nothing."""
        del incoming
        return self._serve(call, sink)

    async def _serve(self, call: Call, sink: Sink) -> None:
        service = self._service
        try:
            tokens = await service.pipeline.count_input(call, service.routes)
        except GatewayError as error:
            service.refused(call.operation, error)
            service.pipeline.refuse(call, error, sink)
            return
        send_json(call.request_id, sink, _encode({"input_tokens": tokens}))


class ModelsRoute:
    """`GET /v1/models`."""

    __slots__ = ("_service", "max_body_bytes")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.max_body_bytes = 1024 * 1024

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """List the models that can be called here."""
        service = self._service
        try:
            principal = identify(service, incoming).principal
        except GatewayError as error:
            refuse(incoming.request_id, error, sink)
            return
        rows = [_model(found) for found in offers(service.routes, principal, service.clock.wall())]
        headers = _headers(service, incoming, principal)
        send_json(incoming.request_id, sink, _encode({"object": "list", "data": rows}), headers=headers)


class ModelRoute:
    """`GET /v1/models/{model}`."""

    __slots__ = ("_service", "max_body_bytes")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.max_body_bytes = 1024 * 1024

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Return one model, also one that is routable and not listed."""
        service = self._service
        name = incoming.path.removeprefix("/v1").removeprefix("/models/")
        try:
            principal = identify(service, incoming).principal
            row = _model(offer(service.routes, principal, name, service.clock.wall()))
        except GatewayError as error:
            refuse(incoming.request_id, error, sink)
            return
        send_json(incoming.request_id, sink, _encode(row), headers=_headers(service, incoming, principal))


def _headers(service: Service, incoming: Incoming, principal: Principal) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer of OpenAI's has."""
    took_ns = service.clock.monotonic() - incoming.received_ns
    return [VERSION, *whose(principal), processing(took_ns)]


class Plain:
    """A route that needs no key: health and metrics."""

    __slots__ = ("_answer", "_kind", "max_body_bytes")

    def __init__(self, answer: Callable[[], tuple[int, bytes]], kind: tuple[bytes, bytes] = _JSON) -> None:
        self._answer = answer
        self._kind = kind
        self.max_body_bytes = 4096

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Answer at once."""
        status, body = self._answer()
        sink.start(status, [self._kind, (b"x-request-id", incoming.request_id.encode())], len(body))
        sink.write(body)
        sink.finish()


def _readiness(service: Service) -> tuple[int, bytes]:
    reason = service.ready
    if reason:
        return 503, _encode({"status": "unavailable", "reason": reason})
    return 200, b'{"status":"ready"}'


def _model(found: Offer) -> dict[str, object]:
    return {
        "id": found.name,
        "object": "model",
        "created": 1677610602,  # OpenAI gives each model's own date; ours is the day the API was born
        "owned_by": found.owner,
        "shutdown_date": found.shutdown or None,
    }


def send_json(
    request_id: str,
    sink: Sink,
    body: bytes,
    status: int = 200,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a JSON answer that is not a call's."""
    sink.start(status, [_JSON, (b"x-request-id", request_id.encode()), *headers], len(body))
    sink.write(body)
    sink.finish()
