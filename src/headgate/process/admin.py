"""Put the admin API together: its table, the stores behind it, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.admin.routes import table
from headgate.errors import AuthenticationFailed
from headgate.http import dataplane
from headgate.http.errors import render
from headgate.identity.keys import Keyring
from headgate.identity.networks import client_address
from headgate.money.terms import PaymentSettings
from headgate.ops.signin import actor_of_key
from headgate.transport.mail import MailSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.routing import BaseRoute

    from headgate.ops.actors import Actor
    from headgate.ops.desk import AdminStore, Desk
    from headgate.stores.sql.database import Place

_VERIFY: Final = (
    "curl {address}/admin/v1/signup/verify -H 'content-type: application/json' "
    '-d \'{{"token": "{{token}}"}}\''
)
TABLE = table()  # at import: a route that declares no permission stops the start


class AdminSettings(NamedTuple):
    """What the admin API is told of the configuration."""

    payments: PaymentSettings = PaymentSettings()
    mail: MailSettings = MailSettings()
    trusted: tuple[str, ...] = ()  # networks of the proxies whose word on a client's address counts
    keks: tuple[bytes, ...] = ()  # of stored secrets, the present one first
    address: str = "http://127.0.0.1:8787"  # where we are, for mails


def admin_routes(
    place: Place,
    desk_of: Callable[[AdminStore], Desk],
    settings: AdminSettings,
    fault: Callable[[str, BaseException], None],
    changed: Callable[[], Awaitable[None]],
) -> list[BaseRoute]:
    """Return the routes of the admin API on a data folder.

    Args:
        place: the folder, and where its books are.
        desk_of: puts a desk on its store.
        settings: of the configuration.
        fault: told of our own bugs.
        changed: told of each write that was done; returns when it is in force here.
    """
    # Only here: a served call imports neither Starlette nor SQLAlchemy.
    from headgate.admin.app import AdminApi
    from headgate.admin.office import Office, Pace, Trade
    from headgate.stores.sql.admin import SqlAdminStore
    from headgate.stores.sql.database import folder_of
    from headgate.stores.sql.replies import SqlReplies
    from headgate.stores.sql.reports import SqlReports
    from headgate.transport.mail import mailer_of

    desk = desk_of(SqlAdminStore(place))
    office = Office(
        desk=desk,
        replies=SqlReplies(place),
        reports=SqlReports(place),
        trade=Trade(
            payments=settings.payments,
            mailer=mailer_of(settings.mail, folder_of(place)),
            signup_link=settings.mail.link or _VERIFY.format(address=settings.address),
        ),
        pace=Pace(),
        keks=settings.keks,
    )
    return AdminApi(TABLE, office, _Door(desk, settings.trusted), _Words(), fault, changed).routes()


class _Door:
    """Who comes. Implements `admin.app.Door`."""

    def __init__(self, desk: Desk, trusted: tuple[str, ...]) -> None:
        self._desk = desk
        self._trusted = trusted

    def address(self, headers: list[tuple[bytes, bytes]], peer: str) -> str:
        """Return where a request comes from."""
        return client_address(peer, headers, self._trusted)

    def actor(self, headers: list[tuple[bytes, bytes]], peer: str) -> Actor:
        """Return who asks.

        Raises:
            AuthenticationFailed: no admin key, or none that is valid from there.
            CallerError: two different keys in one request.
        """
        named = dict(headers)
        token = Keyring.extract(named.get(b"authorization"), named.get(b"api-key"), named.get(b"x-api-key"))
        if token is None:
            raise AuthenticationFailed(
                "You didn't provide an API key. The admin API takes an admin key in a header "
                "`Authorization: Bearer sk-hg-adm-...`. Make one with `headgate keys create --kind admin`."
            )
        return actor_of_key(self._desk, token, self.address(headers, peer))


class _Words:
    """The data plane's errors, for the site. Implements `admin.app.Words`."""

    render = staticmethod(render)
    unknown_url = staticmethod(dataplane.unknown_url)
    wrong_method = staticmethod(dataplane.wrong_method)
