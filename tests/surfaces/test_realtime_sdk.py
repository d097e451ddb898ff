"""OpenAI's own client in a session with the simulator, through a running gateway."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from headgate.transport.simulator.tone import spoken


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return openai.OpenAI(base_url=simulated.base, api_key=simulated.key, max_retries=0)


def until_done(session: Any) -> tuple[Any, list[Any]]:
    events = []
    for event in session:
        events.append(event)
        assert event.type != "error", event
        if event.type == "response.done":
            return event.response, events
    raise AssertionError("the session ended")


def test_text_and_audio(client, simulated):
    with client.realtime.connect(model="gpt-realtime") as session:
        assert session.recv().type == "session.created"
        session.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        said = [{"type": "input_text", "text": "Say 你好 world"}]
        session.conversation.item.create(item={"type": "message", "role": "user", "content": said})
        session.response.create()
        answer, events = until_done(session)
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "你好 world"
        assert answer.status == "completed"
        session.response.create(response={"output_modalities": ["audio"]})
        spoke, events = until_done(session)
        audio = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.output_audio.delta")
        assert len(audio) % 2 == 0
        assert spoke.usage.output_token_details.audio_tokens == len(audio) * 20 // 48_000
        assert spoke.usage.input_token_details.cached_tokens == answer.usage.input_tokens
    rows = json.loads(simulated.command("usage", "--by", "model", "--json").stdout)
    assert "gpt-realtime" in json.dumps(rows)
    assert simulated.command("ledger", "check").returncode == 0


def test_the_end_of_speech_begins_an_answer(client):
    with client.realtime.connect(model="gpt-realtime-mini") as session:
        for sound in (spoken("hello there"), bytes(48_000)):
            session.input_audio_buffer.append(audio=base64.b64encode(sound).decode())
        answer, events = until_done(session)
        kinds = [event.type for event in events]
        assert kinds.index("input_audio_buffer.speech_started") < kinds.index("input_audio_buffer.committed")
        assert answer.usage.input_token_details.audio_tokens > 5


def test_an_answer_can_be_called_off(client):
    with client.realtime.connect(
        model="gpt-realtime", extra_headers={"x-headgate-sim": "chunk_ms=50"}
    ) as session:
        said = [{"type": "input_text", "text": "Count from 1 to 60"}]
        session.conversation.item.create(item={"type": "message", "role": "user", "content": said})
        session.response.create(response={"output_modalities": ["text"]})
        while session.recv().type != "response.output_text.delta":
            pass
        session.response.cancel()
        answer, _ = until_done(session)
        assert answer.status == "cancelled"


def test_what_the_simulator_is_asked_to_refuse_is_refused_before_there_is_a_session(client):
    with pytest.raises(Exception, match="429"), client.realtime.connect(model="sim-429"):
        pass
