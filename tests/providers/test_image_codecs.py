"""Images: requests and answers at OpenAI's wire and at Google's, as bytes."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from tests.providers.asking import notes, read, sent, target

from headgate.admission.bounds import bound, priced, units_bound
from headgate.errors import CallerError, UpstreamError, UpstreamInterrupted, UpstreamRefused
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.providers.registry import CODECS
from headgate.values import Call, Prices, Target, Usage
from headgate.wire.forms import Part, written
from headgate.wire.uploads import take_form

OPENAI, GEMINI = CODECS["openai"]["images"], CODECS["gemini"]["images"]
PICTURE = b64encode(b"a picture").decode()
GPT = Prices(
    5_000_000, 10_000_000, 1_250_000, 5_000_000, 10_000_000, more=(("input_image", 3), ("output_image", 22))
)
DALLE = Prices(more=(("image:1024x1024:hd", 80_000_000_000), ("image:1024x1024", 40_000_000_000)))
USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 1_100,
    "output_tokens_details": {"text_tokens": 44, "image_tokens": 1_056},
    "total_tokens": 1_150,
}


def asked(**members: Any) -> Call:
    made = Call(bytes.fromhex("0199c5f4a1b2") + bytes(10), "images", 0)
    parse(msgspec.json.encode({"prompt": "a cat", **members}), made)
    return made


def at(kind: str = "openai", model: str = "m", prices: Prices | None = GPT) -> Target:
    made = msgspec.structs.replace(target(kind, model), prices=prices, by_unit=bool(prices and prices.more))
    return msgspec.structs.replace(made, base_path="/v1beta") if kind == "gemini" else made


def test_the_members_pass_and_the_answer_passes():
    call = asked(model="mine", n=2, size="1024x1024", quality="high")
    assert sent(OPENAI, call, at(model="gpt-image-1.5")) == {
        "prompt": "a cat", "model": "gpt-image-1.5", "n": 2, "size": "1024x1024", "quality": "high",
    }  # fmt: skip
    body = msgspec.json.encode({"created": 1, "data": [{"b64_json": PICTURE}] * 2, "usage": USAGE})
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        out, usage = read(OPENAI, call, at(), pieces)
        assert out == body
        assert usage == Usage(50, 1_100, more=(("input_image", 40), ("output_image", 1_056)))


def test_what_has_a_price_by_the_piece_is_counted_by_the_piece():
    call = asked(model="dall-e-3", quality="hd", n=1)
    body = b'{"created":1,"data":[{"url":"https://example.com/1.png"}]}'
    to = at(prices=DALLE)
    out, usage = read(OPENAI, call, to, [body])
    assert (out, usage) == (body, Usage(more=(("image:1024x1024:hd", 1),)))
    assert cost(usage, DALLE) == bound(call, (to,)) == 80_000_000
    assert read(OPENAI, asked(), at(prices=Prices()), [body])[1] == Usage(more=(("image:1024x1024", 1),))
    assert read(OPENAI, asked(), at(prices=GPT), [body])[1] is None, "then it is an estimate"


def test_the_hold_is_an_upper_bound_in_the_units_that_have_a_price():
    call = asked(n=2, size="1536x1024", quality="high", partial_images=2)
    assert units_bound(call, at()) == (("output_image", 2 * (6_240 + 200 + 2_048)),)
    used = Usage(60, 2 * 6_240 + 400, more=(("output_image", 2 * 6_240 + 400),))
    assert cost(used, GPT) <= bound(call, (at(),))
    assert priced(call, at()).prices is GPT
    assert priced(asked(size="2000x2000"), at(prices=DALLE)).prices is None, "it has no price for that size"
    assert priced(call, at(prices=Prices(more=(("second", 5),)))).prices is None
    assert priced(call, at(prices=Prices(5, 5))).prices == Prices(5, 5), "by tokens alone"


def event(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **more}))


def test_a_stream_passes_and_its_last_event_waits_for_the_books():
    call = asked(stream=True, partial_images=1)
    partial = event("image_generation.partial_image", b64_json=PICTURE, partial_image_index=0)
    last = event("image_generation.completed", b64_json=PICTURE, usage=USAGE)
    whole = partial + last
    for size in (1, 7, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        out, usage = read(OPENAI, call, at(), pieces)
        assert (out, usage) == (whole, Usage(50, 1_100, more=(("input_image", 40), ("output_image", 1_056))))
    reader = OPENAI.reader(call, at())
    assert reader.feed(whole) == partial
    assert reader.finish() == b""
    assert reader.end(Usage(1, 1)) == last


def test_a_stream_that_reports_an_error_or_says_nothing_is_an_upstreams_fault():
    reader = OPENAI.reader(asked(stream=True), at())
    with pytest.raises(UpstreamError, match="blocked"):
        reader.feed(
            b'event: error\ndata: {"type":"error","error":{"message":"blocked","code":"moderation_blocked"}}\n\n'
        )
    with pytest.raises(UpstreamInterrupted):
        OPENAI.reader(asked(stream=True), at()).finish()


@pytest.mark.parametrize(
    "usage", [{"input_tokens": -1}, {"output_tokens": "x"}, [], {"output_tokens": 10**12}, {}]
)
def test_a_usage_that_cannot_be_true_is_none(usage: Any):
    body = msgspec.json.encode({"created": 1, "data": [{"b64_json": PICTURE}], "usage": usage})
    assert read(OPENAI, asked(), at(), [body])[1] is None


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": 1}, "prompt"), ({"n": 0}, "n"), ({"n": 11}, "n"), ({"size": "big"}, "size"),
        ({"size": "99999x1"}, "size"), ({"quality": "best"}, "quality"), ({"response_format": "png"}, "response_format"),
        ({"partial_images": 4}, "partial_images"), ({"output_format": "gif"}, "output_format"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_where_it_is_wrong(members: dict[str, Any], param: str):
    with pytest.raises(CallerError) as caught:
        asked(**members)
    assert caught.value.param == param


# ── Google's ─────────────────────────────────────────────────────────────────────────────────────

BANANA = Prices(300_000, 2_500_000, 300_000, 300_000, 2_500_000, more=(("output_image", 27_500_000),))
COUNT = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 1_300,
    "totalTokenCount": 1_309,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}],
}


def google(model: str = "gemini-2.5-flash-image") -> Target:
    return at("gemini", model, BANANA)


def painted(*parts: dict[str, Any], finish: str = "STOP", **more: Any) -> bytes:
    content = {"role": "model", "parts": list(parts)}
    found = {"candidates": [{"content": content, "finishReason": finish, "index": 0}]} if parts else {}
    return msgspec.json.encode({**found, "usageMetadata": COUNT, **more})


IMAGE = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}


def test_a_prompt_and_a_size_become_a_shape():
    request = GEMINI.encode(asked(size="1792x1024", user="u", quality="high"), google())
    assert request.path == "/v1beta/models/gemini-2.5-flash-image:generateContent"
    call = asked(size="1792x1024", user="u", quality="high")
    assert sent(GEMINI, call, google()) == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
        "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9"}},
    }
    assert notes(call) == [("dropped", "user"), ("dropped", "quality")]
    large = sent(GEMINI, asked(size="3840x2160"), google("gemini-3-pro-image"))
    assert large["generationConfig"]["imageConfig"] == {"aspectRatio": "16:9", "imageSize": "4K"}


@pytest.mark.parametrize(
    "members",
    [{"n": 2}, {"response_format": "url"}, {"background": "transparent"}, {"size": "1024x100"}, {"size": "2048x2048"}],
)  # fmt: skip
def test_what_it_cannot_paint_is_refused(members: dict[str, Any]):
    with pytest.raises(CallerError) as caught:
        GEMINI.encode(asked(**members), google())
    assert caught.value.param == next(iter(members))


def test_an_image_of_googles_is_an_answer_of_openais():
    thought = {"inlineData": {"mimeType": "image/png", "data": "draft"}, "thought": True}
    body = painted({"text": "Here it is"}, thought, IMAGE)
    out, usage = read(GEMINI, asked(), google(), [body[:40], body[40:]])
    assert usage == Usage(9, 1_300, more=(("output_image", 1_290),))
    answer = msgspec.json.decode(out)
    assert answer["data"] == [{"b64_json": PICTURE}]
    assert answer["output_format"] == "png"
    assert answer["usage"]["output_tokens_details"] == {"image_tokens": 1_290, "text_tokens": 10}
    assert cost(usage, BANANA) == -(-(9 * 300_000 + 1_300 * 2_500_000 + 1_290 * 27_500_000) // 1_000)


def test_a_stream_of_googles_is_one_event():
    out, _ = read(GEMINI, asked(stream=True), google(), [painted(IMAGE)])
    head, data = out.decode().strip().split("\n")
    assert head == "event: image_generation.completed"
    assert msgspec.json.decode(data.removeprefix("data: "))["b64_json"] == PICTURE


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (painted({"text": "no"}, finish="IMAGE_SAFETY"), UpstreamRefused),
        (painted(promptFeedback={"blockReason": "PROHIBITED_CONTENT"}), UpstreamRefused),
        (painted({"text": "What shall I draw?"}), UpstreamInterrupted),
        (b"nonsense", UpstreamInterrupted),
        (b'{"error":{"code":429,"message":"quota"}}', UpstreamError),
    ],
)
def test_an_answer_without_an_image_says_why(body: bytes, error: type[Exception]):
    with pytest.raises(error):
        read(GEMINI, asked(), google(), [body])


def test_a_chat_with_a_model_that_paints_is_held_for_images():
    chat = Call(bytes(16), "chat", 0)
    parse(b'{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"draw"}]}', chat)
    assert units_bound(chat, google()) == (("output_image", 100),)


def formed(operation: Any, *files: Part, **fields: str) -> Call:
    made = Call(bytes.fromhex("0199c5f4a1b2") + bytes(10), operation, 0)
    parts = [*files, *(Part(name, value.encode()) for name, value in fields.items())]
    body = take_form(b"multipart/form-data; boundary=XYZ", b"".join(written(parts, "XYZ")), made)
    assert body is not None
    parse(body, made)
    return made


SHOWN = Part("image", b"a picture", "a.webp", "image/webp")


def test_images_to_edit_are_shown_beside_the_prompt():
    call = formed(
        "image_edits", SHOWN, SHOWN._replace(name="image[]"), prompt="make it red", input_fidelity="high"
    )
    body = sent(CODECS["gemini"]["image_edits"], call, google())
    inline = {"inlineData": {"mimeType": "image/webp", "data": PICTURE}}
    assert body["contents"] == [{"role": "user", "parts": [inline, inline, {"text": "make it red"}]}]
    assert notes(call) == [("dropped", "input_fidelity")]
    out, usage = read(CODECS["gemini"]["image_edits"], call, google(), [painted(IMAGE)])
    assert msgspec.json.decode(out)["data"] == [{"b64_json": PICTURE}]
    assert usage == Usage(9, 1_300, more=(("output_image", 1_290),))


def test_an_edit_as_json_takes_what_stands_in_its_address():
    call = Call(bytes(16), "image_edits", 0)
    images = [{"image_url": f"data:image/png;base64,{PICTURE}"}]
    parse(msgspec.json.encode({"prompt": "red", "images": images, "stream": True}), call)
    codec = CODECS["gemini"]["image_edits"]
    [turn] = sent(codec, call, google())["contents"]
    assert turn["parts"][0] == {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    assert b"event: image_edit.completed" in read(codec, call, google(), [painted(IMAGE)])[0]
    elsewhere = Call(bytes(16), "image_edits", 0)
    parse(msgspec.json.encode({"prompt": "red", "images": [{"image_url": "https://x/y.png"}]}), elsewhere)
    with pytest.raises(CallerError) as caught:
        codec.encode(elsewhere, google())
    assert caught.value.param == "images[0]"


def test_a_variation_is_asked_for_in_words_and_a_mask_is_refused():
    call = formed("image_variations", SHOWN)
    [turn] = sent(CODECS["gemini"]["image_variations"], call, google())["contents"]
    assert turn["parts"][1] == {"text": "Draw a variation of this image."}
    masked = formed("image_edits", SHOWN, SHOWN._replace(name="mask"), prompt="red")
    with pytest.raises(CallerError) as caught:
        CODECS["gemini"]["image_edits"].encode(masked, google())
    assert (caught.value.param, caught.value.code) == ("mask", "unsupported_parameter")
