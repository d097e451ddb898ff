from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from tests.http.served import Echo, Served, get, post, post_chunked, until


def starlette_app() -> Starlette:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "path": request.url.path,
                "query": dict(request.query_params),
                "body": (await request.body()).decode(),
                "client": request.client.host if request.client else None,
                "agent": request.headers.get("user-agent"),
            },
            headers={"x-own": "1"},
        )

    async def stream(_request: Request) -> StreamingResponse:
        async def parts() -> Any:
            for word in ("one ", "two"):
                yield word
                await asyncio.sleep(0)

        return StreamingResponse(parts(), media_type="text/plain")

    async def broken(_request: Request) -> PlainTextResponse:
        raise ValueError("a bug")

    return Starlette(
        routes=[
            Route("/echo/{name}", echo, methods=["GET", "POST"]),
            Route("/stream", stream),
            Route("/broken", broken),
        ]
    )


@pytest.mark.anyio
async def test_a_starlette_app_is_served() -> None:
    async with Served({}, asgi=starlette_app) as served:
        client = await served.connect()
        answer = await client.ask(post("/echo/caf%C3%A9?a=1&b=%20", b"hello", "User-Agent: me"))
        assert answer.status == 200
        assert answer.headers["x-own"] == "1"
        assert answer.headers["server"] == "headgate"
        found = answer.json()
        assert found["query"] == {"a": "1", "b": " "}
        assert (found["body"], found["client"], found["agent"]) == ("hello", "127.0.0.1", "me")
        assert (await client.ask(post_chunked("/echo/x", b"he", b"llo"))).json()["body"] == "hello"
        answer = await client.ask(get("/stream"))
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"one two"
        assert (await client.ask(get("/nothing"))).status == 404
        only_head = await client.ask(get("/echo/x", method="HEAD"), head=True)
        assert int(only_head.headers["content-length"]) > 10
        assert (await client.ask(get("/broken"))).status == 500
        assert [str(fault) for _, fault in served.log.faults] == ["a bug"]
        assert (await client.ask(get("/echo/y"))).status == 200


@pytest.mark.anyio
async def test_the_scope_is_what_the_specification_says() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async with Served({}, asgi=lambda: app) as served:
        client = await served.connect()
        answer = await client.ask(get("/a%2Fb?q=%20", "X-Two: 1", "x-two: 2"))
        assert answer.headers["content-length"] == "0"
        (scope,) = scopes
        assert scope["type"] == "http"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.1", "http")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/b", b"/a%2Fb", b"q=%20")
        assert scope["headers"] == [(b"host", b"gate"), (b"x-two", b"1"), (b"x-two", b"2")]
        assert scope["client"][0] == "127.0.0.1"
        assert scope["root_path"] == ""


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["before the head", "after the head", "in the body", "without an answer"])
async def test_an_app_that_fails_gives_a_500_or_a_cut(where: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if where == "without an answer":
            return
        if where == "before the head":
            raise ConnectionResetError("a database went away")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        if where == "after the head":
            raise ValueError("a bug")
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("a bug")

    async with Served({"/e": Echo()}, asgi=lambda: app) as served:
        client = await served.connect()
        client.send(get("/x"))
        if where == "in the body":
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.answer()
        else:
            answer = await client.answer()
            assert answer.status == 500
            assert answer.error["code"] == "internal_error"
            assert (await client.ask(get("/e"))).status == 200
        assert len(served.log.faults) == (where != "without an answer")


@pytest.mark.anyio
async def test_an_app_that_cannot_be_made_gives_a_500_and_is_tried_again() -> None:
    tries = []

    def make() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ImportError("starlette is not installed")
        return starlette_app()

    async with Served({}, asgi=make) as served:
        client = await served.connect()
        assert (await client.ask(get("/stream"))).status == 500
        assert (await client.ask(get("/stream"))).status == 200
        assert (await client.ask(get("/stream"))).status == 200
        assert len(tries) == 2


@pytest.mark.anyio
async def test_messages_out_of_order_are_errors() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RuntimeError, match="out of order"):
            await send({"type": "http.response.body", "body": b""})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with pytest.raises(RuntimeError, match="out of order"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert await receive() == {"type": "http.disconnect"}

    async with Served({}, asgi=lambda: app) as served:
        client = await served.connect()
        assert (await client.ask(get("/"))).body == b"ok"
        assert served.log.faults == []


@pytest.mark.anyio
async def test_an_app_learns_that_its_client_has_gone() -> None:
    learnt: list[object] = []
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        begun.set()
        learnt.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async with Served({}, asgi=lambda: app) as served:
        client = await served.connect()
        client.send(get("/"))
        await begun.wait()
        client.reset()
        await until(lambda: learnt)
        assert learnt == [{"type": "http.disconnect"}]
        assert served.log.faults == []


@pytest.mark.anyio
async def test_a_body_above_the_limit_never_reaches_the_app() -> None:
    async with Served({}, asgi=starlette_app, max_body_bytes=10) as served:
        client = await served.connect()
        assert (await client.ask(post("/echo/x", b"x" * 11))).status == 413


def test_the_edge_imports_no_framework() -> None:
    code = (
        "import sys, headgate.http.edge, headgate.http.server;"
        "print([n for n in ('starlette', 'uvicorn', 'anyio', 'uvloop') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
