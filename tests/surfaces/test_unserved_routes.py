"""What is asked for and not served here: OpenAI's other routes, wrong methods, targets that are no path."""

import socket
from urllib.parse import urlsplit

import openai
import pytest
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway

from headgate.http.dataplane import NOT_SERVED


def status_line(gateway: Gateway, request: bytes) -> bytes:
    address = urlsplit(gateway.base)
    with socket.create_connection((address.hostname, address.port), 5) as connection:
        connection.sendall(request + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return connection.makefile("rb").readline()


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return openai_client(simulated.base, simulated.key)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"OPTIONS *", b"404"),
        (b"GET http://h", b"200"),
        (b"GET //", b"404"),
        (b"GET /v1", b"404"),
        (b"GET /v1/", b"404"),
        (b"OPTIONS /v1/models", b"405"),
        (b"DELETE /v1/models/gpt-4o", b"405"),
        (b"PUT /v1/chat/completions", b"405"),
    ],
)
def test_an_odd_target_is_refused_plainly(simulated, request_line, status):
    assert status_line(simulated, request_line).split()[1] == status


@pytest.mark.parametrize(
    "path",
    [
        *(name for name in NOT_SERVED if name not in {"realtime", "videos", "files", "uploads", "batches"}),
        "chat/completions/chatcmpl-1/messages",
        "files/file-1/other",
        "uploads/upload-1",
        "batches/batch_1/other",
        "realtime/calls",
        "videos/edits",
    ],
)
@pytest.mark.parametrize("root", ["", "/v1"])
def test_an_openai_route_that_is_not_served_says_so_and_what_to_use(client, simulated, root, path):
    url = f"{simulated.base.removesuffix('/v1')}{root}/{path}"
    with pytest.raises(openai.NotFoundError, match="does not serve this route") as caught:
        client.get(url, cast_to=object)
    assert caught.value.code == "unknown_url"
    assert NOT_SERVED[path.split("/")[0]] in caught.value.message


def test_stored_answers_are_said_not_to_be_kept(client):
    with pytest.raises(openai.NotFoundError, match="Answers are not stored"):
        client.chat.completions.list()
    with pytest.raises(openai.NotFoundError, match="Answers are not stored"):
        client.chat.completions.retrieve("chatcmpl-1")


def test_a_url_that_was_put_together_wrongly_says_how(client, simulated):
    root = simulated.base.removesuffix("/v1")
    with pytest.raises(openai.NotFoundError, match="/v1 stands in it twice"):
        client.post(f"{root}/v1/v1/chat/completions", cast_to=object)
    with pytest.raises(openai.NotFoundError, match="Ask a model with POST /v1/chat/completions"):
        client.post(f"{root}/v1/chat/completion", cast_to=object)
