"""The wires of batches that go through a bucket: what is asked of it and of the provider, and what is read."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session
from botocore.validate import ParamValidator
from tests.providers.asking import chat
from tests.transport.asking import HandClock

from headgate.buckets import Bucket
from headgate.credentials import AccessKeys, Bearer, Signing
from headgate.errors import UpstreamDenied, UpstreamFailed, UpstreamInterrupted, UpstreamOverloaded
from headgate.ports import Head
from headgate.providers.batches import BatchState, Found
from headgate.providers.bedrock.jobs import InvocationJobs
from headgate.providers.buckets import (
    Said,
    SignedStore,
    TokenStore,
    all_of,
    input_of,
    list_in,
    mistake,
    output_of,
    page_of,
    placed,
    to_bucket,
)
from headgate.providers.gemini import PredictionJobs
from headgate.values import Book, Host, Model, Target
from headgate.wire.batchjobs import BatchJob, Part, Passed

VERTEX = PredictionJobs()
GOOGLE = TokenStore()
PARTS = (
    Part(until=9, lines=9, file="ours/batch_0a/in.jsonl", batch="1"),
    Part(until=12, lines=3, file="ours/batch_0a.2/in.jsonl", intended=1),
)
JOB = BatchJob(
    id="batch_0a", call=bytes(range(16)), account=1, project=1, key=1, member=0, book=Book.REAL,
    endpoint="/v1/chat/completions", input_file="file-ours", created_at=1, expires_at=1,
    passed=Passed(provider="p", upstream="m", parts=PARTS),
)  # fmt: skip
PROJECT = "/v1/projects/ours/locations/global"


def vertex() -> Target:
    bearer = Bearer()
    bearer.renew("a-token")
    bucket = placed(GOOGLE, Said("gs://our-bucket/ours/", "", ""), "global")
    host = Host(name="vertex", kind="vertex", base_url="https://v", bearer=bearer, bucket=bucket)
    headers = (("content-type", "application/json"), ("x-own", "1"))
    return Target(host=host, model=Model(name="gemini-9"), prices=None, headers=headers, base_path=PROJECT)


def said(value: object) -> bytes:
    return json.dumps(value).encode()


def job(**more: object) -> dict[str, object]:
    output = {"gcsDestination": {"outputUriPrefix": "gs://our-bucket/ours/batch_0a.2/out"}}
    name = "projects/123/locations/global/batchPredictionJobs/456"
    return {"name": name, "displayName": "headgate batch_0a.2", "outputConfig": output, **more}


# ── the bucket ──────────────────────────────────────────────────────────────────────────────────


def test_a_bucket_is_where_the_settings_say():
    assert placed(GOOGLE, Said("gs://b-1/a/c/", "", ""), "") == Bucket(
        "gs", "b-1", "a/c/", "https://storage.googleapis.com", "storage.googleapis.com"
    )
    own = placed(GOOGLE, Said("gs://b-1", "http://127.0.0.1:9/", ""), "")
    assert (own.prefix, own.endpoint, own.host) == ("", "http://127.0.0.1:9", "127.0.0.1:9")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "b-1",
        "s3://b-1",
        "gs://",
        "gs://B",
        "gs://b-1/a b",
        "gs://b-1/a/../c",
        "gs://b-1/a//c",
        "gs://b-1/c?d",
        "gs://b/x#",
    ],
)
def test_what_is_no_bucket_is_said_to_be_none(url):
    with pytest.raises(ValueError, match="batch_bucket"):
        placed(GOOGLE, Said(url, "", ""), "")


def test_each_part_has_a_folder_of_its_own_and_all_begin_alike():
    bucket = vertex().host.bucket
    assert bucket is not None
    assert input_of(JOB, bucket) == "ours/batch_0a.2/in.jsonl"
    assert output_of(JOB, bucket) == "ours/batch_0a.2/out"
    assert all_of(JOB, bucket) == "ours/batch_0a"


def test_objects_are_put_got_and_removed_with_the_token_alone():
    lines = memoryview(b'{"a":1}')
    put = to_bucket(GOOGLE, vertex(), ("PUT", "ours/batch_0a/in.jsonl"), (lines, ""))
    assert (put.method, put.path, put.whole()) == ("PUT", "/our-bucket/ours/batch_0a/in.jsonl", b'{"a":1}')
    assert put.headers == (("authorization", "Bearer a-token"), ("content-type", "application/jsonl"))
    got = to_bucket(GOOGLE, vertex(), ("GET", "ours/x/prediction-2026-11-27T10:00:00Z/p +.jsonl"))
    assert got.path == "/our-bucket/ours/x/prediction-2026-11-27T10%3A00%3A00Z/p%20%2B.jsonl"
    assert (got.headers, got.tail) == ((("authorization", "Bearer a-token"),), ())


def test_names_are_listed_page_by_page():
    first = list_in(GOOGLE, vertex(), "ours/batch_0a", "")
    assert (first.method, first.path) == ("GET", "/our-bucket?list-type=2&prefix=ours%2Fbatch_0a")
    second = list_in(GOOGLE, vertex(), "ours/batch_0a", "a/b=")
    assert second.path == "/our-bucket?continuation-token=a%2Fb%3D&list-type=2&prefix=ours%2Fbatch_0a"
    page = (
        b"<?xml version='1.0'?><ListBucketResult xmlns='x'><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>a/b=</NextContinuationToken><Contents><Key>a&amp;b</Key><Size>1</Size></Contents>"
        b"<Contents><Key>c</Key></Contents></ListBucketResult>"
    )
    assert page_of(page) == (("a&b", "c"), "a/b=")
    assert page_of(b"<ListBucketResult/>") == ((), "")
    with pytest.raises(UpstreamInterrupted):
        page_of(b"<html>hello</html>")


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, UpstreamDenied), (400, UpstreamDenied), (403, UpstreamDenied), (404, UpstreamDenied),
     (429, UpstreamOverloaded), (500, UpstreamFailed), (503, UpstreamOverloaded)],
)  # fmt: skip
def test_what_a_store_refuses_is_told_without_its_words(status, error):
    made = mistake(Head(status, ()), b"<Error><Code>NoSuchBucket</Code><Message>our-bucket</Message></Error>")
    assert type(made) is error
    assert f"({status} NoSuchBucket)" in made.message
    assert "our-bucket" not in made.message


def test_without_its_bucket_a_provider_is_asked_for_nothing():
    there = vertex()
    there = msgspec.structs.replace(there, host=msgspec.structs.replace(there.host, bucket=None))
    with pytest.raises(UpstreamDenied, match="no batch_bucket"):
        VERTEX.create(JOB, there)


# ── Vertex AI ───────────────────────────────────────────────────────────────────────────────────


def test_a_line_at_vertex_has_its_number_as_a_label():
    line = VERTEX.line(JOB, 50_000, b'{"contents":\n [{"parts": []}]}')
    assert b"\n" not in line
    assert json.loads(line) == {
        "request": {"contents": [{"parts": []}], "labels": {"headgate_line": "50000"}}
    }


def test_an_order_at_vertex_names_ours():
    request = VERTEX.create(JOB, vertex())
    assert (request.method, request.path) == ("POST", f"{PROJECT}/batchPredictionJobs")
    assert ("authorization", "Bearer a-token") in request.headers
    assert json.loads(request.body) == {
        "displayName": "headgate batch_0a.2",
        "model": "publishers/google/models/gemini-9",
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": ["gs://our-bucket/ours/batch_0a.2/in.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://our-bucket/ours/batch_0a.2/out"},
        },
    }


def test_jobs_at_vertex_are_asked_for_by_name():
    assert VERTEX.look(vertex(), "456").path == f"{PROJECT}/batchPredictionJobs/456"
    assert VERTEX.cancel(vertex(), "456").path == f"{PROJECT}/batchPredictionJobs/456:cancel"
    listed = VERTEX.listed(JOB, vertex(), "t/k")
    assert listed.path == (
        f"{PROJECT}/batchPredictionJobs?filter=display_name%3D%22headgate%20batch_0a.2%22&pageSize=100"
        "&pageToken=t%2Fk"
    )
    assert VERTEX.named(said(job())) == "456"


@pytest.mark.parametrize(
    ("state", "ended"),
    [("QUEUED", ""), ("PENDING", ""), ("RUNNING", ""), ("CANCELLING", ""), ("PAUSED", ""), ("UPDATING", ""),
     ("SUCCEEDED", "completed"), ("PARTIALLY_SUCCEEDED", "completed"), ("CANCELLED", "cancelled"),
     ("EXPIRED", "expired"), ("A_NEW_ONE", "")],
)  # fmt: skip
def test_states_at_vertex(state, ended):
    told = VERTEX.state(said(job(state=f"JOB_STATE_{state}")))
    assert told == BatchState("456", ended, "ours/batch_0a.2/out" if ended else "")


def test_a_job_that_failed_at_vertex_says_why():
    told = VERTEX.state(said(job(state="JOB_STATE_FAILED", error={"code": 3, "message": "No permission"})))
    assert (told.ended, told.output, told.why[0].message) == ("failed", "", "No permission")


def test_a_job_of_ours_at_vertex_is_found_by_its_whole_name():
    other = job(displayName="headgate batch_0a")
    assert VERTEX.found(said({"batchPredictionJobs": [other, job()]}), JOB, "") == Found("456", "")
    assert VERTEX.found(said({"batchPredictionJobs": [other], "nextPageToken": "t"}), JOB, "") == Found(
        "", "t"
    )
    assert VERTEX.found(b"{}", JOB, "") == Found("", "")


def answer(**more: object) -> bytes:
    request = {"contents": [{"parts": [{"text": "x"}]}], "labels": {"headgate_line": "7"}}
    return said({"status": "", "processed_time": "2026-11-27T10:00:00.1+00:00", "request": request, **more})


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (
            'Bad Request: {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}',
            (400, {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}),
        ),
        ("Too Many Requests: slow down", (429, {"code": 429, "message": "Too Many Requests: slow down"})),
        ("something {broke}", (500, {"code": 500, "message": "something {broke}"})),
        ('odd {"error": 7}', (500, {"code": 500, "message": 'odd {"error": 7}'})),
        ('odd {"error": {"code": 3}}', (500, {"code": 500, "message": 'odd {"error": {"code": 3}}'})),
    ],
)
def test_a_status_at_vertex_is_the_error_of_its_line(status, found):
    told = VERTEX.reading(JOB)(answer(status=status, response={}))
    assert told is not None
    assert (told.n, told.status, json.loads(told.body)) == (7, found[0], {"error": found[1]})
    assert VERTEX.error(Head(told.status, ()), told.body).message


def test_an_answer_at_vertex_is_that_of_a_call():
    told = VERTEX.reading(JOB)(answer(response={"candidates": []}))
    assert told == (7, 200, b'{"candidates": []}')


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"request": {}}', b'{"request": {"labels": {"headgate_line": "x"}}}', b"[" * 5_000],
)
def test_what_is_no_answer_of_vertex_is_said_to_be_none(data):
    for read in (VERTEX.state, VERTEX.named, VERTEX.reading(JOB)):
        with pytest.raises(UpstreamInterrupted):
            read(data)


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", ""])
def test_a_name_at_vertex_that_would_change_the_path_is_none(name):
    with pytest.raises(UpstreamInterrupted):
        VERTEX.named(said({"name": f"projects/1/locations/x/batchPredictionJobs/{name}"}))


# ── Bedrock ─────────────────────────────────────────────────────────────────────────────────────

CLOCK = HandClock()
BEDROCK = InvocationJobs(CLOCK)
AMAZON = SignedStore(CLOCK)
ROLE = "arn:aws:iam::123456789012:role/batches"
KEYS = AccessKeys("AKIDEXAMPLE", "wJalr/+", "FwoGZXIvYXdzE==")
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abc123def456"
NAMED = f"headgate-{JOB.call.hex()}-2"


def bedrock(model: str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0", base: str = "") -> Target:
    host = Host(
        name="bedrock", kind="bedrock", signing=Signing(KEYS), location="us-east-1",
        base_url=base or "https://bedrock-runtime.us-east-1.amazonaws.com",
        bucket=placed(AMAZON, Said("s3://our-bucket/ours", "", ROLE), "us-east-1"),
    )  # fmt: skip
    headers = (("content-type", "application/json"), ("user-agent", "headgate"))
    return Target(host=host, model=Model(name=model), prices=None, headers=headers)


@cache
def operation(name: str) -> Any:
    return Session().get_service_model("bedrock").operation_model(name)


def described(name: str, params: dict[str, Any]) -> None:
    """See that an operation takes parameters: their members, and the patterns of their texts."""
    shape = operation(name).input_shape
    report = ParamValidator().validate(params, shape)
    assert not report.has_errors(), report.generate_report()
    spelt(params, shape)


def spelt(value: Any, shape: Any) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            spelt(each, shape.members[name])
    elif isinstance(value, str):
        pattern = shape._shape_model.get("pattern")
        assert pattern is None or re.fullmatch(pattern, value), (shape.name, value)


def is_signed(request: Any, url: str, service: str) -> bool:
    """Say whether botocore signs a request as we did."""
    headers = dict(request.headers)
    found = re.search(r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$", headers["authorization"])
    assert found is not None
    given = {name: headers[name] for name in found[1].split(";") if name != "host"}
    theirs = AWSRequest(request.method, url + request.path, given, request.whole())
    theirs.context["timestamp"] = headers["x-amz-date"]
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(
        Credentials(KEYS.id, KEYS.secret, KEYS.session), service, "us-east-1"
    )
    assert headers["x-amz-security-token"] == KEYS.session
    return found[2] == signer.signature(
        signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs
    )


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_bucket_of_s3_is_in_the_region_of_the_models(location, endpoint):
    bucket = placed(AMAZON, Said("s3://our-bucket", "", ROLE), location)
    assert (bucket.endpoint, bucket.role) == (endpoint, ROLE)


@pytest.mark.parametrize("role", ["", "batches", "arn:aws:iam::1:role/x", "arn:aws:sts::123456789012:role/x"])
def test_a_bucket_of_s3_needs_a_role(role):
    with pytest.raises(ValueError, match="batch_role"):
        placed(AMAZON, Said("s3://our-bucket", "", role), "us-east-1")


def test_objects_of_s3_are_signed_with_what_they_bring():
    lines, place = memoryview(b'{"a":1}'), "https://s3.us-east-1.amazonaws.com"
    digest = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    put = to_bucket(AMAZON, bedrock(), ("PUT", "ours/batch_0a/in.jsonl"), (lines, digest))
    assert (put.path, dict(put.headers)["x-amz-content-sha256"]) == (
        "/our-bucket/ours/batch_0a/in.jsonl",
        digest,
    )
    assert is_signed(put, place, "s3")
    assert is_signed(to_bucket(AMAZON, bedrock(), ("DELETE", "ours/a b+c.jsonl")), place, "s3")
    assert is_signed(list_in(AMAZON, bedrock(), "ours/batch_0a", "t/+="), place, "s3")


def test_a_line_at_bedrock_is_a_record():
    line = BEDROCK.line(JOB, 50_000, b'{"messages":\n []}')
    assert b"\n" not in line
    assert json.loads(line) == {"recordId": "00000050000", "modelInput": {"messages": []}}


@pytest.mark.parametrize(
    ("endpoint", "kind"), [("chat/completions", "Converse"), ("embeddings", "InvokeModel")]
)
def test_an_order_at_bedrock_is_one_however_often_it_is_sent(endpoint, kind):
    job = msgspec.structs.replace(JOB, endpoint=f"/v1/{endpoint}")
    request = BEDROCK.create(job, bedrock())
    assert (request.method, request.path) == ("POST", "/model-invocation-job")
    told = json.loads(request.body)
    described("CreateModelInvocationJob", told)
    assert (told["jobName"], told["clientRequestToken"], told["modelInvocationType"]) == (NAMED, NAMED, kind)
    assert (told["roleArn"], told["modelId"]) == (ROLE, bedrock().model.name)
    assert told["inputDataConfig"]["s3InputDataConfig"]["s3Uri"] == "s3://our-bucket/ours/batch_0a.2/in.jsonl"
    assert told["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"] == "s3://our-bucket/ours/batch_0a.2/out/"
    assert is_signed(request, "https://bedrock.us-east-1.amazonaws.com", "bedrock")
    assert json.loads(BEDROCK.create(job, bedrock()).body) == told


@pytest.mark.parametrize(
    ("base", "beside"),
    [
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "https://bedrock.us-east-1.amazonaws.com"),
        ("https://bedrock-runtime-fips.us-east-1.amazonaws.com", "https://bedrock-fips.us-east-1.amazonaws.com"),
        ("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", "https://vpce-1.bedrock.us-east-1.vpce.amazonaws.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)  # fmt: skip
def test_jobs_at_bedrock_are_asked_for_beside_the_runtime(base, beside):
    there = bedrock(base=base)
    assert BEDROCK.at(there).host.base_url == beside
    look, stop = BEDROCK.look(there, "abc123def456"), BEDROCK.cancel(there, "abc123def456")
    assert (look.method, look.path) == ("GET", "/model-invocation-job/abc123def456")
    assert (stop.method, stop.path, stop.body) == ("POST", "/model-invocation-job/abc123def456/stop", b"")
    described("GetModelInvocationJob", {"jobIdentifier": "abc123def456"})
    described("StopModelInvocationJob", {"jobIdentifier": "abc123def456"})
    listed = BEDROCK.listed(JOB, there, "t/+=")
    query = dict(parse_qsl(urlsplit(listed.path).query))
    described("ListModelInvocationJobs", {**query, "maxResults": int(query["maxResults"])})
    assert (query["nameContains"], query["nextToken"]) == (NAMED, "t/+=")
    assert all(is_signed(request, beside, "bedrock") for request in (look, stop, listed))


def told(**more: Any) -> bytes:
    output = {"s3OutputDataConfig": {"s3Uri": "s3://our-bucket/ours/batch_0a.2/out/"}}
    return said({"jobArn": ARN, "jobName": NAMED, "outputDataConfig": output, **more})


def test_states_at_bedrock():
    known = operation("GetModelInvocationJob").output_shape.members["status"].enum
    ends = {
        "Completed": "completed",
        "PartiallyCompleted": "expired",
        "Expired": "expired",
        "Stopped": "cancelled",
    }
    for status in {*known, "ANewOne"} - {"Failed"}:
        ended = ends.get(status, "")
        assert BEDROCK.state(told(status=status)) == BatchState(
            "abc123def456", ended, "ours/batch_0a.2/out/" if ended else ""
        )
    failed = BEDROCK.state(told(status="Failed", message="Too few records"))
    assert (failed.ended, failed.output, failed.why[0].message) == ("failed", "", "Too few records")


def test_a_job_of_ours_at_bedrock_is_found_by_its_whole_name():
    other = {"jobArn": f"{ARN[:-1]}9", "jobName": f"{NAMED}1"}
    rows = {"invocationJobSummaries": [other, json.loads(told())]}
    assert BEDROCK.found(said(rows), JOB, "") == Found("abc123def456", "")
    rows = {"invocationJobSummaries": [other], "nextToken": "t"}
    assert BEDROCK.found(said(rows), JOB, "") == Found("", "t")
    assert BEDROCK.named(said({"jobArn": ARN})) == "abc123def456"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"modelOutput": {"a": 1}}, (7, 200, b'{"a": 1}')),
        (
            {"error": {"errorCode": 400, "errorMessage": "bad request"}},
            (7, 400, b'{"message":"bad request"}'),
        ),
        ({"error": {"errorCode": 7, "errorMessage": "odd"}}, (7, 500, b'{"message":"odd"}')),
        ({"error": {"errorCode": 400, "errorMessage": "late", "expired": True, "retryable": False}}, None),
    ],
)
def test_records_of_bedrock(row, found):
    record = {"recordId": "00000000007", "modelInput": {"inputText": "x"}}
    assert BEDROCK.reading(JOB)(said({**record, **row})) == found


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"recordId": "x"}', b'{"recordId": "7"}', b"[" * 5_000]
)
def test_what_is_no_answer_of_bedrock_is_said_to_be_none(data):
    for read in (BEDROCK.state, BEDROCK.named, BEDROCK.reading(JOB)):
        with pytest.raises(UpstreamInterrupted):
            read(data)


SHAPED = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
LISTED = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}
TOOL = {"type": "function", "function": {"name": "now"}}


@pytest.mark.parametrize(
    ("model", "members", "takes"),
    [
        ("us.amazon.nova-2-lite-v1:0", {}, True),
        ("us.amazon.nova-2-lite-v1:0", {"tools": []}, True),
        ("us.amazon.nova-2-lite-v1:0", {"tools": [TOOL]}, False),
        ("us.amazon.nova-2-lite-v1:0", {"response_format": SHAPED}, False),  # a tool stands for it
        ("qwen.qwen3-32b-v1:0", {"response_format": SHAPED}, True),
        ("us.amazon.nova-2-lite-v1:0", {"response_format": LISTED}, True),  # its line gets the error of that
    ],
)
def test_what_has_tools_goes_into_no_batch_at_bedrock(model, members, takes):
    assert BEDROCK.takes(chat(**members), bedrock(model)) is takes
