"""Speech at OpenAI's wire: what is sent, what passes, what it costs."""

from typing import Any

import msgspec
import pytest
from tests.providers.asking import read, sent, target

from headgate.admission.bounds import bound, priced
from headgate.errors import CallerError, UpstreamInterrupted
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.providers.registry import CODECS
from headgate.values import Call, Prices, Target, Usage

CODEC = CODECS["openai"]["speech"]
BY_CHARACTER = Prices(more=(("character", 15_000_000),))
BY_TOKENS = Prices(600_000, 12_000_000, 600_000, 600_000, 12_000_000, 600_000, 12_000_000)


def asked(**members: Any) -> Call:
    made = Call(bytes(16), "speech", 0)
    parse(msgspec.json.encode({"model": "tts-1", "input": "Hello, 世界", "voice": "alloy", **members}), made)
    return made


def at(prices: Prices | None) -> Target:
    return msgspec.structs.replace(
        target("openai", "tts-1-hd"), prices=prices, by_unit=bool(prices and prices.more)
    )


def test_sound_passes_as_it_comes_and_is_paid_by_the_character():
    call, to = asked(response_format="wav"), at(BY_CHARACTER)
    assert (call.stream, call.flows, call.answer_type) == (False, True, b"")
    assert sent(CODEC, call, to)["model"] == "tts-1-hd"
    reader = CODEC.reader(call, to)
    assert reader.usage() is None
    assert reader.feed(b"\x00\xff") == b"\x00\xff"
    assert (reader.finish(), reader.end(Usage())) == (b"", b"")
    assert reader.usage() == Usage(more=(("character", 9),))
    assert cost(Usage(more=(("character", 9),)), BY_CHARACTER) == bound(call, (to,)) == 135_000


def test_what_is_paid_by_tokens_and_does_not_tell_them_is_an_estimate_within_the_hold():
    call, to = asked(), at(BY_TOKENS)
    assert priced(call, to).prices is BY_TOKENS
    reader = CODEC.reader(call, to)
    reader.feed(b"x")
    assert reader.usage() is None
    assert 0 < cost(Usage(4, reader.produced()), BY_TOKENS) < bound(call, (to,))


def test_events_tell_their_tokens_and_the_last_one_waits():
    call, to = asked(stream_format="sse"), at(BY_TOKENS)
    assert (call.stream, call.flows) == (True, False)
    delta = b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
    done = b'data: {"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":30,"total_tokens":34}}\n\n'
    whole = delta + done
    for size in (1, 9, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert read(CODEC, call, to, pieces) == (whole, Usage(4, 30))
    reader = CODEC.reader(call, to)
    assert reader.feed(whole) == delta


def test_an_empty_answer_is_an_upstreams_fault():
    with pytest.raises(UpstreamInterrupted):
        CODEC.reader(asked(), at(BY_CHARACTER)).finish()


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": 3}, "input"), ({"input": "x" * 4_097}, "input"), ({"voice": []}, "voice"), ({"voice": {}}, "voice.id"),
        ({"speed": 5}, "speed"), ({"response_format": "ogg"}, "response_format"), ({"stream_format": "x"}, "stream_format"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_where_it_is_wrong(members: dict[str, Any], param: str):
    with pytest.raises(CallerError) as caught:
        asked(**members)
    assert caught.value.param == param
