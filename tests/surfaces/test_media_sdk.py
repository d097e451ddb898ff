"""What makes no text, through the official SDK: moderations."""

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
