"""`headgate batch run` against scripted answers: files of spreadsheets, full disks, gateways that go away."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.stub import Stub, answer

from headgate.cli import batchrun
from headgate.cli.batchrows import Row, Sheet, read_rows
from headgate.cli.batchrun import Results
from headgate.cli.exits import Failed, Unusable

PROMPT = ("-m", "gpt-4o-mini", "--prompt", "Translate: {text}")


def read(folder: Path, content: bytes, name: str = "in.csv", encoding: str | None = None) -> Sheet:
    path = folder / name
    path.write_bytes(content)
    return read_rows(path, encoding)


@pytest.mark.parametrize(
    ("content", "encoding", "marked"),
    [
        ("id,text\n1,你好\n".encode(), None, False),
        ("id,text\r\n1,你好\r\n".encode("utf-8-sig"), None, True),
        ("id\ttext\r\n1\t你好\r\n".encode("utf-16"), None, True),
        ("id,text\r\n1,你好\r\n".encode("gbk"), "gbk", True),
        ("id;text\r\n1;你好\r\n".encode(), "utf-8", False),
        ("id,text,,\r\n1,你好,,\r\n".encode(), None, False),
        (" id , text\r\n1,你好\r\n".encode(), None, False),
    ],
)
def test_files_are_read_as_spreadsheets_write_them(tmp_path, content, encoding, marked):
    sheet = read(tmp_path, content, encoding=encoding)
    assert sheet == Sheet([Row(2, "1", {"id": "1", "text": "你好"})], marked)


def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path):
    sheet = read(tmp_path, '{"text": "a\u2028b"}\r\n\r\n"c"\n'.encode("utf-8-sig"), "in.jsonl")
    assert [row.values for row in sheet.rows] == [{"text": "a\u2028b"}, {"text": "c"}]


def test_a_row_may_be_named_by_anything(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"_id": 1, "id": {"$oid": "5f"}}\n{"id": [1]}\n{"id": ""}\n{"id": 1.5}\n{"id": false}\n')
    assert [row.name for row in read_rows(path).rows] == ['{"$oid":"5f"}', "[1]", "row-3", "1.5", "false"]


def test_a_row_is_where_it_begins_and_may_be_long(tmp_path):
    long = "x" * 300_000
    sheet = read(tmp_path, f'text\n"a\nb"\n{long}\n'.encode())
    assert [(row.line, row.name, len(row.values["text"])) for row in sheet.rows] == [
        (2, "row-2", 3),
        (4, "row-4", 300_000),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "id,text\na,b\n1,你好\n".encode("gbk"),
            r"in.csv, line 3: not UTF-8 text. Say how .* --encoding gbk",
        ),
        (b'id,text\n1,a\n2,"b\n3,c\n', r"line 3: not CSV: unexpected end of data"),
        (b"text,text\n1,2\n", r"line 1: two columns are named 'text'"),
        (b"id,text\n%b,1\n" % (b"x" * 513), r"Line 2: the id has 513 characters. It may have 512"),
        (b"id,text\na\0b,1\n", r"Line 2: the id has a NUL"),
    ],
)
def test_what_cannot_be_read_says_its_line_and_what_to_do(tmp_path, content, said):
    with pytest.raises(Failed) as refused:
        read(tmp_path, content)
    assert re.search(said, refused.value.message), refused.value.message


@pytest.mark.parametrize("name", ["base64", "no-such"])
def test_an_encoding_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(Unusable, match="--encoding"):
        read(tmp_path, b"text\na\n", encoding=name)


def result(name: str, text: str) -> dict[str, Any]:
    message = {"message": {"content": text}}
    return {"custom_id": name, "response": {"status_code": 200, "body": {"choices": [message]}}}


def test_an_answer_without_choices_is_a_row_without_one(tmp_path):
    path = tmp_path / "out.jsonl"
    results = Results(path, Sheet([Row(1, "a", {})], False))
    results.take([{"custom_id": "a", "response": {"status_code": 200, "body": {"choices": []}}}])
    assert results.failed == 1
    assert "no choices" in path.read_text()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_cut_of_an_output_is_gone_on_with(tmp_path, kind):
    rows = [
        Row(n, f"{n}", {"text": text, "answer": "old"}) for n, text in enumerate(["a", 'b"\n\r,', "c\rd"])
    ]
    sheet, whole = Sheet(rows, True), tmp_path / f"whole.{kind}"
    lines = [result(row.name, f"{row.values['text']}\u2028\x0b\n!") for row in rows]
    Results(whole, sheet).resume()
    Results(whole, sheet).take(lines)
    content = whole.read_bytes()
    for cut in range(len(content)):
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(content[:cut])
        results = Results(path, sheet)
        results.resume()
        results.take(lines)
        assert path.read_bytes() == content, cut
        assert results.done == {"0", "1", "2"}


def test_a_sheet_gets_its_mark_back_and_keeps_columns_that_are_called_like_ours(tmp_path):
    path = tmp_path / "out.csv"
    results = Results(path, Sheet([Row(2, "row-2", {"custom_id": "", "answer": "old"})], True))
    results.resume()
    results.take([result("row-2", "new")])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"custom_id": "row-2", "answer": "old", "answer_2": "new", "error": ""}


def told(status: str, *results: dict[str, Any]) -> bytes:
    counts = {"completed": len(results), "failed": 0, "total": 1}
    batch = {"id": "batch_1", "status": status, "request_counts": counts, "errors": None,
             "output_file_id": None, "error_file_id": None}  # fmt: skip
    found = {"batch": batch, "data": results, "last_seq": len(results), "charge_nano_usd": 1_500_000}
    return answer(200, json.dumps(found).encode())


FILE = answer(200, b'{"id": "file-1"}')
BATCH = answer(200, b'{"id": "batch_1"}')
LOST = b""


@pytest.fixture
def batch(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(batchrun, "_LOOK_S", 0.01)
    Path("in.jsonl").write_text('"x"\n')

    def command(stub: Stub, *args: str) -> Any:
        url = f"http://127.0.0.1:{stub.port}"
        return run("batch", "run", "in.jsonl", *PROMPT, "--url", url, "--key", "k", *args)

    return command


def test_what_came_while_nobody_looked_is_no_rate(batch, monkeypatch):
    monkeypatch.setattr(batchrun, "_PAGE", 2)
    monkeypatch.setattr(batchrun, "_PLAIN_S", 0.0)
    Path("in.jsonl").write_text('"x"\n"y"\n"z"\n')
    first, last = told("in_progress", result("row-1", "a"), result("row-2", "b")), result("row-3", "c")
    with Stub([FILE, BATCH, first, told("in_progress", last), told("completed")]) as stub:
        done = batch(stub)
    assert done.exit_code == 0, done.output
    said = [line for line in done.stderr.splitlines() if " of 3" in line]
    assert said[0] == "in_progress: 2 of 3, $0.0015 so far"
    assert "0.0/s" in said[1]


def test_a_batch_whose_order_had_no_answer_is_ordered_once(batch):
    with Stub([FILE, LOST, BATCH, told("completed", result("row-1", "y"))]) as stub:
        first = batch(stub)
        assert first.exit_code == 3
        done = batch(stub)
    assert (done.exit_code, done.stdout) == (
        0, "1 results in in.results.jsonl, 0 without an answer; $0.0015 in all.\n"
    )  # fmt: skip
    orders = [request for request in stub.requests if request.startswith(b"POST /v1/batches ")]
    (key,) = {re.search(rb"idempotency-key: (\S+)", order)[1] for order in orders}
    assert len(orders) == 2
    assert len(key) > 32
    assert sum(request.startswith(b"POST /v1/files ") for request in stub.requests) == 1


def test_a_refused_order_leaves_nothing_behind(batch):
    with Stub([FILE, answer(404, b'{"error": {"message": "No such File", "code": null}}')]) as stub:
        refused = batch(stub)
    assert refused.exit_code == 1
    assert list(Path().glob("in.results*")) == []


def test_two_runs_never_write_one_output(batch):
    with Stub([]) as stub, batchrun._alone(Path("in.results.jsonl")):
        refused = batch(stub)
    assert refused.exit_code == 1
    assert "Another run writes in.results.jsonl" in refused.stderr
    assert stub.requests == []
    assert list(Path().glob("in.results*")) == []


def test_a_gateway_that_is_away_is_waited_for(batch):
    away = [LOST, answer(503, b'{"error": {"message": "The database is away.", "code": null}}')]
    with Stub([FILE, BATCH, told("in_progress"), *away, told("completed", result("row-1", "y"))]) as stub:
        done = batch(stub)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("Waiting for it. The batch goes on.") == 1
    assert json.loads(Path("in.results.jsonl").read_text())["answer"] == "y"


def test_a_gateway_that_stays_away_is_not_waited_for_for_ever(batch, monkeypatch):
    monkeypatch.setattr(batchrun, "_PATIENCE_S", 0.0)
    with Stub([FILE, BATCH, LOST]) as stub:
        gone = batch(stub)
    assert gone.exit_code == 3
    assert "The batch goes on. The same command writes the rest of its results." in gone.stderr


@pytest.mark.parametrize("out", ["no/out.csv", "x.xlsx"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_sent(batch, out):
    with Stub([]) as stub:
        refused = batch(stub, "--out", out)
    assert refused.exit_code in {1, 2}
    assert refused.stderr.startswith("Error: ")
    assert out in refused.stderr
    assert stub.requests == []


def test_a_value_that_is_null_is_told_as_that(batch):
    Path("in.jsonl").write_text('{"text": "a"}\n\n{"text": null}\n')
    with Stub([]) as stub:
        refused = batch(stub)
    assert refused.stderr == "Error: Line 3: the column 'text' is null.\n"
    assert stub.requests == []


@pytest.mark.parametrize("state", [b"", b"junk", b'{"batch": 1}', b'{"batch": "\xe9"}'])
def test_a_state_that_cannot_be_read_is_left_for_its_user_to_remove(batch, state):
    Path("in.results.jsonl.state").write_bytes(state)
    with Stub([]) as stub:
        refused = batch(stub)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: in.results.jsonl.state cannot be read")
    assert Path("in.results.jsonl.state").read_bytes() == state
    assert stub.requests == []


def test_too_many_rows_are_refused_before_anything_is_sent(batch):
    with Stub([]) as stub:
        Path("in.jsonl").write_text('"x"\n' * 50_001)
        refused = batch(stub)
    assert "50,001 rows make" in refused.stderr
    assert stub.requests == []


def test_a_dry_run_of_a_model_without_a_price_says_its_tokens(batch):
    with Stub([]) as stub:
        done = batch(stub, "--dry-run")
        unknown = batch(stub, "--dry-run", "-m", "no-such-model")
        found = json.loads(batch(stub, "--dry-run", "-m", "no-such-model", "--json").stdout)
    assert "as a batch" in done.stdout
    assert "No price of this model is known here." in unknown.stdout
    assert (found["lines"], found["usual_nano_usd"], found["batch_nano_usd"]) == (1, None, None)
    assert found["input_tokens"] > 0


def asked(name: str, **body: Any) -> str:
    line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps({**line, "body": {"model": "gpt-4o-mini", **body}}) + "\n"


HELLO = [{"role": "user", "content": "hello"}]
TRY = ("batch", "submit", "in.jsonl", "--dry-run", "--url", "http://127.0.0.1:1", "--json")


def test_a_dry_run_of_a_file_counts_its_lines_and_orders_nothing(run):
    lines = (
        asked("a", messages=HELLO, max_tokens=10),
        asked("b", messages=HELLO, n=2),
        asked("c", messages="x"),
        asked("d", messages=HELLO, max_completion_tokens=5, n=3),
    )
    Path("in.jsonl").write_text("".join(lines))
    found = json.loads(run(*TRY).stdout)
    assert (found["lines"], found["output_tokens"]) == (3, 10 + 2 * 200 + 3 * 5)
    assert found["input_tokens"] == 3 * 8
    assert found["output_is"] == "the limit of each, else a guess of 200 each"
    assert 0 < found["batch_nano_usd"] * 2 <= found["usual_nano_usd"] + 3
    (failing,) = found["failing"]
    assert failing.startswith("line 3: Invalid type for 'messages'")
    said = run(*TRY[:-1]).stdout
    assert "3 lines, 24 tokens in, 425 out" in said
    assert "1 more line would get an error for an answer:\nline 3: Invalid" in said


def test_a_dry_run_of_embeddings_counts_what_comes_in(run):
    body = {"model": "text-embedding-3-small", "input": ["hello", "hello"]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    Path("in.jsonl").write_text(json.dumps(line) + "\r\n")
    found = json.loads(run(*TRY, "--endpoint", "/v1/embeddings").stdout)
    assert (found["lines"], found["input_tokens"], found["output_tokens"]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        ("{bad\n", (), "in.jsonl would be refused.\nline 1: This line is not parseable"),
        (asked("a", messages=HELLO) + asked("b", model="gpt-4o", messages=HELLO), (), "line 2: the model is"),
        (asked("a", messages="x"), (), "no line that can be run.\nline 1: Invalid type"),
        ("", (), "no line that can be run."),
        (asked("a", messages=HELLO), ("--endpoint", "/v1/embeddings"), "does not match the endpoint"),
        (asked("a", messages=HELLO), ("--endpoint", "/v1/moderations"), "counts the tokens of /v1/chat"),
        (None, (), "Cannot read in.jsonl: No such file or directory."),
    ],
)
def test_a_dry_run_says_what_is_wrong_with_a_file(run, content, args, said):
    if content is not None:
        Path("in.jsonl").write_text(content)
    refused = run(*TRY[:-1], *args)
    assert refused.exit_code in {1, 2}
    assert said in refused.stderr


def test_a_long_answer_in_a_table_is_read_again(tmp_path):
    csv.field_size_limit(131_072)  # as Python begins: an input in JSON lines does not raise it
    path, sheet, long = tmp_path / "out.csv", Sheet([Row(1, "row-1", {"text": "a"})], False), "x" * 200_000
    for fresh in (1, 0):
        results = Results(path, sheet)
        results.resume()
        assert results.take([result("row-1", long)]) == fresh
