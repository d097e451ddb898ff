"""The members of requests that make no text: moderations. Source: OpenAI's API description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.wire.checks import Check, Json, invalid_type, length, mapping, one_of, required, text

if TYPE_CHECKING:
    from collections.abc import Mapping


def _moderated(path: str, value: Json) -> None:
    """Accept a string, strings, or parts of text and images."""
    if type(value) is str:
        return
    if type(value) is not list:
        raise invalid_type(path, "one of a string or array", value)
    length(path, value, 1, 2048)
    for index, entry in enumerate(value):
        if type(value[0]) is str:
            text(f"{path}[{index}]", entry)
        else:
            _part(f"{path}[{index}]", entry)


def _part(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "type", one_of("text", "image_url"))
    if value["type"] == "text":
        required(path, value, "text", text)
    else:
        required(path, value, "image_url", mapping)
        required(f"{path}.image_url", value["image_url"], "url", text)


MODERATIONS: Mapping[str, Check] = {"model": text, "input": _moderated}
