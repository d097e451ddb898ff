"""No spelling of a path, no method, header or place of a key gets round the admin API's checks (S-03)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.surfaces.conftest import Gateway

ROUTES = (
    "/admin/v1/accounts", "/admin/v1/projects", "/admin/v1/projects/{project}", "/admin/v1/members",
    "/admin/v1/keys", "/admin/v1/keys/{key}", "/admin/v1/budgets", "/admin/v1/limits", "/admin/v1/audit",
    "/admin/v1/usage", "/admin/v1/credit", "/admin/v1/codes", "/admin/v1/secrets", "/admin/v1/payments",
    "/v1/organization/projects", "/v1/organization/projects/{project}", "/v1/organization/users",
    "/v1/organization/admin_api_keys", "/v1/organization/spend_limit",
    "/v1/organization/usage/completions?start_time=1764000000",
)  # fmt: skip
PATHS: dict[str, Callable[[str], str]] = {
    "two slashes in front": lambda path: "/" + path,
    "two slashes within": lambda path: path.replace("/v1/", "/v1//"),
    "two slashes at the first": lambda path: path.replace("/", "//", 2)[1:],
    "a dot": lambda path: path.replace("/v1/", "/v1/./"),
    "a step up": lambda path: path.replace("/v1/", "/v1/x/../"),
    "a step up from what is open": lambda path: "/healthz/.." + path,
    "a step up in code": lambda path: "/v1/models/%2e%2e/%2e%2e" + path,
    "an encoded dot": lambda path: path.replace("/v1/", "/v1/%2e/"),
    "an encoded slash": lambda path: path.replace("/v1/", "/v1%2f"),
    "an encoded slash twice": lambda path: path.replace("/v1/", "/v1%252f"),
    "an encoded letter": lambda path: path.replace("v1", "v%31"),
    "an encoded letter twice": lambda path: path.replace("v1", "v%2531"),
    "a backslash": lambda path: path.replace("/v1/", "\\v1\\"),
    "an encoded backslash": lambda path: path.replace("/v1/", "%5cv1%5c"),
    "a slash behind": lambda path: path + "/",
    "two slashes behind": lambda path: path + "//",
    "a dot behind": lambda path: path + "/.",
    "a full stop behind": lambda path: path + ".",
    "a suffix": lambda path: path + ".json",
    "a parameter": lambda path: path + ";x=1",
    "a parameter within": lambda path: path.replace("/v1/", "/v1;x=1/"),
    "a NUL": lambda path: path + "%00",
    "a NUL and more": lambda path: path + "%00.css",
    "a space": lambda path: path + "%20",
    "a tab": lambda path: path + "%09",
    "a line": lambda path: path + "%0d%0a",
    "a fragment": lambda path: path + "%23",
    "a question mark": lambda path: path + "%3f",
    "overlong dots": lambda path: path.replace("/v1/", "/v1/%c0%ae/"),
    "an overlong slash": lambda path: path.replace("/v1/", "/v1%c0%af"),
    "a wide letter": lambda path: path.replace("v1", "%ef%bd%961"),
    "upper case": str.upper,
    "one upper letter": lambda path: path.replace("v1", "V1"),
    "a prefix": lambda path: "/v1" + path,
    "a prefix of Azure": lambda path: "/openai" + path,
    "no version": lambda path: path.replace("/v1", "", 1),
    "the whole address": lambda path: "http://elsewhere.example" + path,
    "a style sheet behind": lambda path: path + "/style.css",
    "an open page in front": lambda path: "/style.css" + path,
}
HEADERS = (
    "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
    "X-Original-URL: /healthz", "X-Rewrite-URL: /healthz", "X-Original-Method: OPTIONS", "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost", "X-Forwarded-Prefix: /healthz", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1",
    "X-Custom-IP-Authorization: 127.0.0.1", "X-Remote-User: root", "X-User: root", "OpenAI-Project: proj_none",
)  # fmt: skip


class Door:
    """A running gateway and raw requests to it."""

    def __init__(self, gateway: Gateway) -> None:
        self.address = urlsplit(gateway.base)
        said = gateway.command("keys", "create", "--name", "root", "--kind", "admin", "--json")
        self.admin = next(word for word in said.stdout.split('"') if word.startswith("sk-hg-adm-"))
        self.live = gateway.key
        self.ids = {"project": self.first("/admin/v1/projects"), "key": self.first("/admin/v1/keys")}
        admin = f"Authorization: Bearer {self.admin}"
        # What a command made is known here within a second.
        while self.ask("GET", "/v1/models", admin)[0] == 401:
            time.sleep(0.05)
        self.due = {route: self.ask("GET", self.path(route), admin)[0] for route in ROUTES}

    def first(self, path: str) -> str:
        status, body = self.ask("GET", path, f"Authorization: Bearer {self.admin}")
        assert status == 200
        return str(json.loads(body)["data"][0]["id"])

    def ask(self, method: str, target: str, *headers: str) -> tuple[int, bytes]:
        """Send one request as it is; return status and body."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.address.netloc}", "Connection: close", *headers]
        with socket.create_connection((self.address.hostname, self.address.port), 20) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def path(self, route: str) -> str:
        return route.format(**self.ids)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    gateway = Gateway(tmp_path_factory.mktemp("door"))
    made = Door(gateway)
    yield made
    project = made.ids["project"]
    shown = json.loads(
        made.ask("GET", f"/admin/v1/projects/{project}", f"Authorization: Bearer {made.admin}")[1]
    )
    assert shown["archived_at"] == 0
    code, _, err = gateway.stop()
    assert (code, err) == (0, "")


@pytest.mark.parametrize("how", PATHS)
def test_no_spelling_of_a_path_gets_round_the_key(door: Door, how: str) -> None:
    for route in ROUTES:
        plain, _, query = door.path(route).partition("?")
        target = PATHS[how](plain) + ("?" + query if query else "")
        with_key = door.ask("GET", target, f"Authorization: Bearer {door.admin}")
        # Either the same thing, or none: 403 is the data plane's, which takes no admin key.
        if with_key[0] not in {400, 403, 404, 405}:
            assert with_key == door.ask("GET", door.path(route), f"Authorization: Bearer {door.admin}"), (
                target
            )
        for headers, refusal in (((), 401), ((f"Authorization: Bearer {door.live}",), 403)):
            status, body = door.ask("GET", target, *headers)
            assert status in ({refusal} if with_key[0] == 200 else {400, refusal, 404, 405}), (target, status)
            assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "POST", "get", "CONNECT", "PROPFIND"]
)
def test_no_method_gets_round_the_key(door: Door, method: str) -> None:
    for route in ROUTES:
        for headers in ((), (f"Authorization: Bearer {door.live}",)):
            status, body = door.ask(method, door.path(route), *headers)
            assert status in {400, 401, 403, 404, 405, 501}, (route, status)
            assert method != "HEAD" or not body


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_gets_round_the_key_or_changes_what_is_asked(door: Door, header: str) -> None:
    for route in ROUTES:
        path, admin = door.path(route), f"Authorization: Bearer {door.admin}"
        assert door.ask("GET", path, admin, header)[0] == door.due[route]
        assert door.ask("GET", path, header)[0] == 401
        assert door.ask("GET", path, f"Authorization: Bearer {door.live}", header)[0] == 403


def _places(key: str) -> dict[str, tuple[str, ...]]:
    return {
        "bearer": (f"Authorization: Bearer {key}",),
        "small letters": (f"authorization: bearer {key}",),
        "great letters": (f"AUTHORIZATION: BEARER {key}",),
        "Azure's": (f"api-key: {key}",),
        "Anthropic's": (f"x-api-key: {key}",),
        "two, the same": (f"Authorization: Bearer {key}", f"x-api-key: {key}"),
        "three, the same": (f"Authorization: Bearer {key}", f"x-api-key: {key}", f"api-key: {key}"),
    }


def _other(key: str) -> str:
    return key[:-1] + ("x" if key[-1] != "x" else "y")


@pytest.mark.parametrize("place", _places(""))
def test_every_place_of_a_key_leads_to_the_same_check(door: Door, place: str) -> None:
    for route in ROUTES:
        path = door.path(route)
        due = door.due[route]
        assert door.ask("GET", path, *_places(door.admin)[place])[0] == due
        assert door.ask("GET", path, *_places(door.live)[place])[0] == 403
        assert door.ask("GET", path, *_places(_other(door.admin))[place])[0] == 401


def _conflicts(live: str, admin: str) -> list[tuple[str, ...]]:
    return [
        (f"Authorization: Bearer {live}", f"x-api-key: {admin}"),
        (f"Authorization: Bearer {admin}", f"x-api-key: {live}"),
        (f"api-key: {live}", f"x-api-key: {admin}"),
        (f"Authorization: Bearer {live}", f"Authorization: Bearer {admin}"),
        (f"Authorization: Bearer {admin}", f"Authorization: Bearer {live}"),
        (f"x-api-key: {live}", f"x-api-key: {admin}"),
    ]


def test_keys_that_differ_are_a_conflict(door: Door) -> None:
    for headers in _conflicts(door.live, door.admin):
        for route in ROUTES:
            assert door.ask("GET", door.path(route), *headers)[0] == 400, headers


def test_a_key_elsewhere_is_no_key(door: Door) -> None:
    elsewhere: list[Any] = [
        ("", f"Cookie: key={door.admin}; Authorization=Bearer {door.admin}"),
        ("", f"Sec-WebSocket-Protocol: openai-insecure-api-key.{door.admin}"),
        ("", f"Authorization: Basic {door.admin}"),
        ("", f"Authorization: {door.admin}"),
        ("", f"X-Goog-Api-Key: {door.admin}"),
        ("", f"Proxy-Authorization: Bearer {door.admin}"),
        (f"key={door.admin}", "Accept: */*"),
        (f"api_key={door.admin}", "Accept: */*"),
        (f"access_token={door.admin}", "Accept: */*"),
    ]
    for query, header in elsewhere:
        for route in ROUTES:
            path = door.path(route)
            target = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
            status, body = door.ask("GET", target, header)
            assert status == 401, (target, header, status)
            assert door.admin.encode() not in body
