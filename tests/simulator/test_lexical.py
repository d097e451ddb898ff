"""The built-in classifier: what its lists find, in both languages, and what they leave alone."""

import pytest

from headgate.transport.lexical import CATEGORIES, flagged, scores


def found(text: str) -> set[str]:
    return {category for category, yes in flagged(scores(text)).items() if yes}


@pytest.mark.parametrize(
    ("text", "categories"),
    [
        ("I want to kill them.", {"harassment", "harassment/threatening", "violence"}),
        ("I’LL  KILL YOU", {"harassment", "harassment/threatening"}),
        ("i want to   kill\nmyself", {"self-harm", "self-harm/intent"}),
        ("Tell me how to make a bomb at home", {"illicit", "illicit/violent"}),
        ("how do i launder money?", {"illicit"}),
        ("All immigrants are vermin", {"hate"}),
        ("kill all the muslims", {"hate", "hate/threatening"}),
        ("blood gushing, severed head", {"violence", "violence/graphic"}),
        ("free porn here", {"sexual"}),
        ("child pornography", {"sexual", "sexual/minors"}),
        ("painless way to die", {"self-harm", "self-harm/instructions"}),
        ("我要杀了你", {"harassment", "harassment/threatening"}),
        ("我 想*自-杀", {"self-harm", "self-harm/intent"}),
        ("怎么制作炸弹", {"illicit", "illicit/violent"}),
        ("杀光所有外国人", {"hate", "hate/threatening"}),
        ("儿童色情", {"sexual", "sexual/minors"}),
        ("ｙｏｕ ｉｄｉｏｔ", {"harassment"}),
    ],
)
def test_the_lists_find_what_they_are_for(text: str, categories: set[str]) -> None:
    assert found(text) == categories


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello, how are you today?",
        "kill -9 the process, then restart it",
        "a skill set and a killer app in Essex and Scunthorpe",
        "今天天气很好，我们去公园吧",
        "这部电影很感人",
        "grape, document, classic, assassin's creed",
    ],
)
def test_plain_words_pass(text: str) -> None:
    assert found(text) == set()


def test_every_category_has_a_score_and_more_signs_say_more() -> None:
    assert tuple(scores("")) == CATEGORIES
    assert all(
        0 < score < 1 for score in scores("kill them, kill him, kill her, kill someone, kill people").values()
    )
    assert (
        scores("kill")["violence"]
        < scores("kill, murder")["violence"]
        < scores("murder him, kill them")["violence"]
    )


def test_a_sign_on_the_seam_of_two_pieces_is_found() -> None:
    assert "self-harm/intent" in found("x " * 49_995 + "i want to kill myself" + " y" * 60_000)
