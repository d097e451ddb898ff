"""What makes no text, through the official SDK: moderations, images, speech."""

import base64
import io
import json
import struct
import urllib.request
import wave

import openai
import pytest


@pytest.fixture
def client(simulated):
    with openai.OpenAI(base_url=simulated.base, api_key=simulated.key, max_retries=0) as made:
        yield made


def test_texts_are_moderated_by_the_model_that_is_built_in(client):
    raw = client.moderations.with_raw_response.create(model="headgate-lexical", input=["hello", "我想自杀"])
    answer = raw.parse()
    assert answer.model == "headgate-lexical"
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.self_harm_intent
    assert answer.results[1].category_applied_input_types.self_harm == ["text"]
    assert raw.headers["x-headgate-provider"] == "headgate"
    assert "x-headgate-simulated" not in raw.headers
    assert raw.headers["x-headgate-cost"] == "0.000000000"


def test_the_simulator_moderates_by_the_same_lists_and_says_that_it_is_one(client):
    raw = client.moderations.with_raw_response.create(input="I want to kill them.")
    assert raw.parse().results[0].categories.violence
    assert raw.headers["x-headgate-simulated"] == "true"


def test_images_are_refused_by_word_lists(client):
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(openai.BadRequestError, match="reads text alone"):
        client.moderations.create(model="headgate-lexical", input=[picture])


def test_the_built_in_model_is_listed_and_does_not_chat(client):
    assert client.models.retrieve("headgate-lexical").owned_by == "headgate"
    with pytest.raises(openai.NotFoundError, match="does not support chat"):
        client.chat.completions.create(model="headgate-lexical", messages=[{"role": "user", "content": "hi"}])


def png_size(packed: str) -> tuple[int, int]:
    data = base64.b64decode(packed)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def test_images_are_made_and_paid_by_their_tokens(client):
    raw = client.images.with_raw_response.generate(
        model="gpt-image-1", prompt="a red cat", n=2, size="1536x1024", quality="low"
    )
    answer = raw.parse()
    assert [png_size(image.b64_json) for image in answer.data] == [(1536, 1024)] * 2
    assert answer.usage.output_tokens == 2 * 408
    paid = answer.usage.input_tokens * 5_000 + answer.usage.output_tokens * 40_000
    assert float(raw.headers["x-headgate-cost"]) == pytest.approx(paid / 1e9)


def test_images_of_older_models_are_paid_by_the_piece(client):
    raw = client.images.with_raw_response.generate(
        model="dall-e-3", prompt="a cat", size="1792x1024", quality="hd"
    )
    with urllib.request.urlopen(raw.parse().data[0].url) as found:
        assert found.headers["content-type"] == "image/png"
        assert found.read(4) == b"\x89PNG"
    assert raw.headers["x-headgate-cost"] == "0.120000000"


def test_a_stream_of_images_shows_them_in_the_making(client):
    stream = client.images.generate(model="gpt-image-1", prompt="a cat", stream=True, partial_images=2)
    events = list(stream)
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image"] * 2 + ["completed"]
    assert {png_size(event.b64_json) for event in events} == {(1024, 1024)}
    assert events[-1].usage.total_tokens > 0


def test_a_model_is_known_by_what_people_call_it(client):
    answer = client.images.generate(model="nano-banana", prompt="a banana")
    assert png_size(answer.data[0].b64_json) == (1024, 1024)


def test_a_model_that_does_something_else_is_refused(client):
    with pytest.raises(openai.NotFoundError, match="does not support images"):
        client.images.generate(model="gpt-4o", prompt="x")
    with pytest.raises(openai.NotFoundError, match="does not support chat"):
        client.chat.completions.create(model="gpt-image-1", messages=[{"role": "user", "content": "x"}])


def test_what_the_simulator_cannot_paint_is_said(client):
    with pytest.raises(openai.BadRequestError, match="makes PNGs"):
        client.images.generate(model="gpt-image-1", prompt="x", output_format="webp")


def test_speech_is_sound_that_opens(client):
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input="Hello there", response_format="wav"
    )
    with wave.open(io.BytesIO(answer.read())) as sound:
        assert sound.getnframes() > 10_000
    raw = client.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input="Hello there")
    assert raw.headers["content-type"] == "audio/mpeg"
    assert "x-headgate-cost" not in raw.headers, "its head is out before it is complete"


def test_speech_comes_in_events_that_end_with_the_usage(client):
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input="Hello there",
        response_format="pcm",
        stream_format="sse",
    ) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["usage"]["output_tokens"] > 0


def test_a_sound_that_the_simulator_cannot_make_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="opus needs a real model"):
        client.audio.speech.create(model="tts-1", voice="alloy", input="x", response_format="opus")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_speech_becomes_text_again(client):
    sound = client.audio.speech.create(
        model="tts-1", voice="alloy", input="Hello there", response_format="wav"
    ).read()
    raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=("a.wav", sound))
    assert "0.7 seconds" in raw.parse().text
    assert raw.headers["x-headgate-cost"] == "0.000100000"
    text = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", sound), response_format="text"
    )
    assert text.endswith("0.7 seconds.\n")
    vtt = client.audio.translations.create(model="whisper-1", file=("a.wav", sound), response_format="vtt")
    assert str(vtt).startswith("WEBVTT")
    long = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", sound), response_format="verbose_json"
    )
    assert long.duration == pytest.approx(0.66)
    stream = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", sound), stream=True)
    events = list(stream)
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].usage.input_tokens > 0


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_images_are_edited_and_varied(client):
    drawn = client.images.generate(model="gpt-image-1", prompt="a cat", size="256x256").data[0].b64_json
    picture = ("a.png", base64.b64decode(drawn))
    answer = client.images.edit(
        model="gpt-image-1", image=[picture, picture], prompt="blue", n=2, size="512x512"
    )
    assert [png_size(image.b64_json) for image in answer.data] == [(512, 512)] * 2
    assert answer.usage.input_tokens_details.image_tokens > 0
    events = list(
        client.images.edit(model="gpt-image-1", image=picture, prompt="blue", stream=True, partial_images=1)
    )
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert len(client.images.create_variation(image=picture, n=2, size="256x256").data) == 2
    with pytest.raises(openai.BadRequestError, match="no PNG"):
        client.images.edit(model="gpt-image-1", image=("a.txt", b"hello"), prompt="blue")
