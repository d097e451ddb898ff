"""The admin API of a data folder, called in this process as its edge would call it."""

from __future__ import annotations

import asyncio
import atexit
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from headgate.identity.keys import mint_key
from headgate.money.terms import DEFAULT_TERMS, Terms
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.ports import SystemClock
from headgate.process.admin import AdminSettings, admin_routes
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.bootstrap import prepare

_LOOP = asyncio.new_event_loop()  # of all calls: one for each would cost more than the calls
atexit.register(_LOOP.close)


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return dict(error)


class Api:
    """The API, and the operations beside it. `faults` must stay empty."""

    def __init__(
        self, folder: Path, settings: AdminSettings | None = None, terms: Terms = DEFAULT_TERMS
    ) -> None:
        self.folder = folder
        prepared = prepare(folder, SystemClock().wall(), mint_key)
        self.desk = Desk(SqlAdminStore(folder), SystemClock(), prepared.pepper)
        self.faults: list[tuple[str, BaseException]] = []
        routes = admin_routes(
            folder,
            lambda store: Desk(store, SystemClock(), prepared.pepper, terms),
            settings or AdminSettings(),
            lambda where, fault: self.faults.append((where, fault)),
            self._changed,
        )
        self.app = Starlette(routes=routes)
        self.root = self.key(name="root")

    def key(self, **order: Any) -> str:
        """Make an admin key as the owner of the files; return its text."""
        return create_key(LOCAL, self.desk, KeyOrder(kind="admin", **order)).text

    async def _changed(self) -> None:
        """Nobody serves calls here who would have to follow."""

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one request; without a key, as root; None: with none."""
        sent = {"host": "gate", **(headers or {})}
        if key is not None:
            sent.setdefault("authorization", f"Bearer {key or self.root}")
        return _LOOP.run_until_complete(self._call(method, path, body, sent))

    def together(self, *requests: tuple[str, str, object]) -> list[int]:
        """Make requests at once, as root; return their statuses in the order in which they were answered."""

        async def all_of_them() -> list[int]:
            sent = {"host": "gate", "authorization": f"Bearer {self.root}"}
            calls = [self._call(method, path, body, sent) for method, path, body in requests]
            return [(await call).status for call in asyncio.as_completed(calls)]

        return _LOOP.run_until_complete(all_of_them())

    async def _call(self, method: str, path: str, body: object, given: Mapping[str, str]) -> Reply:
        headers = dict(given)
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers.setdefault("content-type", "application/json")
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 9),
            "server": None,
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:]))
