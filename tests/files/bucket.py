"""A small service that speaks as S3 does, on a real socket: it checks every signature with AWS's own signer.

It keeps to what S3 documents where that can catch us: the hash of each body, ETags of parts, 5 MiB as the least
size of all parts but the last, one `<Error>` under the status 200, paths that are encoded once.
"""

from __future__ import annotations

import hashlib
import html
import re
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from tests.threaded import Listener

KEY_ID, SECRET, REGION, NAME = "AKIATEST", "sec/ret+key", "eu-test-1", "bucket.of-tests"
_LEAST = 5 << 20
_ERROR = "<?xml version='1.0'?>\n<Error><Code>{}</Code><Message>m</Message></Error>"


class _Signer(S3SigV4Auth):
    def signed_at(self, request: AWSRequest, stamp: str) -> str:
        request.context["timestamp"] = stamp
        text = self.string_to_sign(request, self.canonical_request(request))
        return str(self.signature(text, request))


class Bucket:
    """One bucket. `faults` are answered in turn, each `(method, status, code)`, "" for any method."""

    def __init__(self, session: str = "") -> None:
        self.session = session
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.faults: list[tuple[str, int, str]] = []
        self.asked: list[str] = []
        self.wrong: list[str] = []  # what was wrong with requests
        self._lock = threading.Lock()
        self._server = Listener(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Bucket:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: object) -> None:
                pass

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                with bucket._lock:
                    status, headers, answer = bucket.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        for method in ("GET", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.do)

        return Handler

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request."""
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        self.asked.append(f"{method} {'&'.join(sorted(query))}".strip())
        given = {name.lower(): value for name, value in headers.items()}
        said = self._check(method, target, given, body)
        if said:
            self.wrong.append(said)
            return 403, {}, _ERROR.format(said).encode()
        for n, (which, status, code) in enumerate(self.faults):
            if which in {"", method}:
                del self.faults[n]
                return status, {}, _ERROR.format(code).encode()
        root, _, key = path.removeprefix("/").partition("/")
        if root != NAME:
            return 404, {}, _ERROR.format("NoSuchBucket").encode()
        serve: Callable[..., tuple[int, dict[str, str], bytes]] = getattr(self, f"_{method.lower()}")
        return serve(key, query, given, body)

    def _check(self, method: str, target: str, given: dict[str, str], body: bytes) -> str:
        """Say what is wrong with a signature, as S3 calls it."""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\S+?)/(\d{8})/(\S+?)/s3/aws4_request, SignedHeaders=(\S+), "
            r"Signature=(\w{64})",
            given.get("authorization", ""),
        )
        if found is None:
            return "AuthorizationHeaderMalformed"
        key_id, day, region, names, signature = found.groups()
        if (key_id, region) != (KEY_ID, REGION):
            return "InvalidAccessKeyId"
        if self.session != given.get("x-amz-security-token", ""):
            return "InvalidToken"
        if hashlib.sha256(body).hexdigest() != given.get("x-amz-content-sha256"):
            return "XAmzContentSHA256Mismatch"
        wanted = {"host", "x-amz-date", "x-amz-content-sha256"}
        wanted |= {"x-amz-security-token"} if self.session else set()
        if not given["x-amz-date"].startswith(day) or not wanted <= set(names.split(";")):
            return "SignatureDoesNotMatch"
        headers = {name: given[name] for name in names.split(";")}
        request = AWSRequest(method=method, url=f"http://{given['host']}{target}", headers=headers)
        signer = _Signer(ReadOnlyCredentials(KEY_ID, SECRET, None), "s3", REGION)
        return "" if signer.signed_at(request, given["x-amz-date"]) == signature else "SignatureDoesNotMatch"

    def _put(self, key: str, query: dict[str, str], _: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploadId" in query:
            if query["uploadId"] not in self.uploads:
                return 404, {}, _ERROR.format("NoSuchUpload").encode()
            self.uploads[query["uploadId"]][1][int(query["partNumber"])] = body
        else:
            self.objects[key] = body
        return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""

    def _post(
        self, key: str, query: dict[str, str], _: Any, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in query:
            name = f"{uuid.uuid4().hex}+/=&<"
            self.uploads[name] = (key, {})
            return 200, {}, f"<R><UploadId>{html.escape(name)}</UploadId></R>".encode()
        of, parts = self.uploads[query["uploadId"]]
        named = re.findall(r"<PartNumber>(\d+)</PartNumber><ETag>([^<]+)</ETag>", body.decode())
        tags = [(str(n), f'"{hashlib.md5(part).hexdigest()}"') for n, part in sorted(parts.items())]
        if of != key or [(n, html.unescape(tag)) for n, tag in named] != tags:
            return 400, {}, _ERROR.format("InvalidPart").encode()
        if any(len(part) < _LEAST for _, part in sorted(parts.items())[:-1]):
            return 400, {}, _ERROR.format("EntityTooSmall").encode()
        self.objects[key] = b"".join(part for _, part in sorted(parts.items()))
        del self.uploads[query["uploadId"]]
        return 200, {}, b"<R><ETag>x</ETag></R>"

    def _get(
        self, key: str, query: dict[str, str], given: Any, _: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if not key:
            rows = [
                f"<Upload><Key>{of}</Key><UploadId>{html.escape(name)}</UploadId></Upload>"
                for name, (of, _) in self.uploads.items()
                if of.startswith(query["prefix"])
            ]
            return 200, {}, f"<R>{''.join(rows)}</R>".encode()
        if key not in self.objects:
            return 404, {}, _ERROR.format("NoSuchKey").encode()
        first, _, last = given["range"].removeprefix("bytes=").partition("-")
        return 206, {}, self.objects[key][int(first) : int(last) + 1]

    def _delete(self, key: str, query: dict[str, str], *_: Any) -> tuple[int, dict[str, str], bytes]:
        if "uploadId" in query:
            return (204 if self.uploads.pop(query["uploadId"], None) else 404), {}, b""
        self.objects.pop(key, None)
        return 204, {}, b""
