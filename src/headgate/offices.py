"""Put the admin API together: its table, the stores behind it, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.admin.routes import table
from headgate.errors import AuthenticationFailed
from headgate.http import dataplane
from headgate.http.errors import render
from headgate.identity.keys import Keyring
from headgate.identity.networks import client_address
from headgate.ops.signin import actor_of_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.routing import BaseRoute

    from headgate.ops.actors import Actor
    from headgate.ops.desk import AdminStore, Desk

TABLE = table()  # at import: a route that declares no permission stops the start


def admin_routes(
    data: Path,
    desk_of: Callable[[AdminStore], Desk],
    trusted: tuple[str, ...],
    fault: Callable[[str, BaseException], None],
) -> list[BaseRoute]:
    """Return the routes of the admin API on a data folder.

    Args:
        data: the folder.
        desk_of: puts a desk on its store.
        trusted: networks of the proxies whose word on a client's address counts.
        fault: told of our own bugs.
    """
    # Only here: a served call imports neither Starlette nor SQLAlchemy.
    from headgate.admin.app import AdminApi
    from headgate.admin.office import Office
    from headgate.stores.sql.admin import SqlAdminStore
    from headgate.stores.sql.replies import SqlReplies
    from headgate.stores.sql.reports import SqlReports

    desk = desk_of(SqlAdminStore(data))

    def identify(headers: list[tuple[bytes, bytes]], peer: str) -> Actor:
        named = dict(headers)
        token = Keyring.extract(named.get(b"authorization"), named.get(b"api-key"), named.get(b"x-api-key"))
        if token is None:
            raise AuthenticationFailed(
                "You didn't provide an API key. The admin API takes an admin key in a header "
                "`Authorization: Bearer sk-hg-adm-...`. Make one with `headgate keys create --kind admin`."
            )
        return actor_of_key(desk, token, client_address(peer, headers, trusted))

    office = Office(desk=desk, replies=SqlReplies(data), reports=SqlReports(data))
    return AdminApi(TABLE, office, identify, _Words(), fault).routes()


class _Words:
    """The data plane's errors, for the site. Implements `admin.app.Words`."""

    render = staticmethod(render)
    unknown_url = staticmethod(dataplane.unknown_url)
    wrong_method = staticmethod(dataplane.wrong_method)
