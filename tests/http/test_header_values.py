"""Values of headers."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from headgate.http.answers import value_of
from headgate.wire.headers import lines_of


@pytest.mark.parametrize("text", ["通义", "a 100% 中文/é", "gpt-4o", "a/b:c@1 100%", "", "日\r\nx: 1"])
def test_a_value_is_ascii_and_tells_its_text(text: str) -> None:
    value = value_of(text)
    assert value.isascii()
    assert (value.decode() if text.isascii() else unquote(value.decode())) == text
    assert lines_of([(b"a", value)]).count(b"\n") == 1


def test_a_name_in_ascii_stays_as_it_is() -> None:
    assert value_of("a/b:c@1 100%") == b"a/b:c@1 100%"
    assert value_of("通义/qwen max") == b"%E9%80%9A%E4%B9%89/qwen max"
